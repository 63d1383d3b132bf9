"""Sweeps, while several adapters read at once and citizens go on."""

from concurrent.futures import ThreadPoolExecutor

from krr.v1 import citizen_service_pb2
from krr_client import RegisterError

from tests.conftest import Register
from tests.people import request_id
from tests.people import synthetic_identifiers as people
from tests.server.sweeping import (
    OFF,
    kinds,
    lease_comparisons,
    load_many,
    reasons,
    report,
    start,
    state,
    sweep,
)

ADAPTERS = 4


def read_all(register: Register, sweep_id: int) -> None:
    """As an adapter's thread does, until the sweep is at its end."""
    while state(register, sweep_id) == "RUNNING":
        for leased in lease_comparisons(register, count=3):
            try:
                report(register, leased, account=OFF)
            except RegisterError as refused:
                assert refused.reason in ("LEASE_LOST", "CONFLICT")


def test_adapters_that_report_at_once_do_not_pass_the_cap_together(register: Register) -> None:
    load_many(register, 60)
    sweep_id = start(register, max_repairs=25)

    with ThreadPoolExecutor(ADAPTERS) as pool:
        list(pool.map(lambda _: read_all(register, sweep_id), range(ADAPTERS)))

    assert state(register, sweep_id) == "STOPPED_AT_CAP"
    assert sweep(register, sweep_id).repaired_count == 25
    assert reasons(register, sweep_id).count("UNSPECIFIED") == 25


def test_citizens_who_write_meanwhile_are_neither_refused_nor_repaired_wrongly(register: Register) -> None:
    load_many(register, 40)
    citizens = [identifier for identifier, _ in zip(people(), range(40), strict=False)]
    sweep_id = start(register, max_repairs=1000)

    def reserve(identifier: str) -> None:
        request = citizen_service_pb2.ReserveRequest(request_id=request_id(), identifier=identifier)
        register.as_citizen(identifier).Reserve(request)

    with ThreadPoolExecutor(ADAPTERS + 2) as pool:
        readers = [pool.submit(read_all, register, sweep_id) for _ in range(ADAPTERS)]
        list(pool.map(reserve, citizens[::2]))
        for reader in readers:
            reader.result()

    found = sweep(register, sweep_id)
    assert state(register, sweep_id) == "FINISHED"
    # Who had reserved was being switched off already.
    assert found.difference_count == found.repaired_count == len(kinds(register, sweep_id))
    assert 20 <= found.repaired_count <= 40
    assert found.compared_count >= 40


def test_of_sweeps_that_begin_at_once_one_runs_and_none_is_refused(register: Register) -> None:
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda _: start(register), range(16)))

    states = [state(register, sweep_id) for sweep_id in sorted(begun)]
    assert states == ["ENDED"] * 15 + ["RUNNING"]
