"""`python -m server` as it is run: refuses to start, drains, and lives through PostgreSQL's troubles."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from krr.v1 import citizen_service_pb2, register_service_pb2

from tests.open_folder import open_folder
from tests.people import KARI, OLA, register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.database import connect
from tests.server.process import (
    NOT_SERVING,
    SERVING,
    Postgres,
    ServerProcess,
    health,
    run,
    serving,
    wait_for_health,
)
from tests.server.rpcs import RPCS, Outcome, Rpcs
from tests.server.valid_requests import LOG_IN_SERVICE, PUBLIC
from tests.server.watching import wait_until

URL = "postgresql+psycopg://krr"
LOOK_UP = register_service_pb2.LookUpPersonsRequest(
    identifiers=[OLA], purpose=register_service_pb2.PURPOSE_NOTICE
)


@pytest.fixture(scope="module")
def durable() -> Iterator[Postgres]:
    """A durable PostgreSQL, migrated by the command."""
    with open_folder() as folder:
        postgres = Postgres(folder / "postgres")
        migrated = run(folder, "migrate", database_url=postgres.url)
        assert migrated.returncode == 0, migrated.stderr
        yield postgres
        postgres.end()


@pytest.fixture
def process(durable: Postgres, tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(tmp_path, durable.url) as server:
        yield server


@pytest.fixture
def calls(process: ServerProcess) -> Iterator[Rpcs]:
    rpcs = Rpcs(process.address)
    yield rpcs
    rpcs.close()


def reserve(rpcs: Rpcs, identifier: str, timeout: float = 10) -> Outcome:
    request = citizen_service_pb2.ReserveRequest(request_id=request_id(), identifier=identifier)
    return rpcs.call("CitizenService/Reserve", request, f"citizen/{identifier}", timeout=timeout)


def look_up(rpcs: Rpcs, timeout: float = 10) -> Outcome:
    return rpcs.call("RegisterService/LookUpPersons", LOOK_UP, PUBLIC, timeout=timeout)


def test_a_server_without_the_address_of_a_database_says_which_setting_is_missing(tmp_path: Path) -> None:
    ended = run(tmp_path)

    assert ended.returncode != 0
    assert ended.stderr == "KRR_DATABASE_URL: Field required\n"


@pytest.mark.parametrize(
    "url", ["mysql://krr:s3cret@localhost/krr", f"{URL}:s3cret@[/krr", f"{URL}:s3cret@127.0.0.1:1/krr"]
)
def test_an_address_where_no_postgresql_answers_is_refused_in_one_line_without_its_password(
    tmp_path: Path, url: str
) -> None:
    ended = run(tmp_path, database_url=url)

    assert ended.returncode != 0
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "KRR_DATABASE_URL" in ended.stderr
    assert "s3cret" not in ended.stderr


def test_a_server_on_a_postgresql_that_may_forget_says_which_setting_to_change(
    database_url: str, tmp_path: Path
) -> None:
    ended = run(tmp_path, database_url=database_url)

    assert ended.returncode != 0
    assert ended.stderr == (
        "PostgreSQL runs with fsync = off and may forget acknowledged writes: set fsync = on.\n"
    )


def test_a_server_on_a_schema_that_it_does_not_know_says_what_to_do(
    durable: Postgres, tmp_path: Path
) -> None:
    with connect(durable.url) as connection:
        [revision] = connection.execute("SELECT version_num FROM alembic_version").fetchall()[0]
        connection.execute("UPDATE alembic_version SET version_num = 'other'")
        other = run(tmp_path, database_url=durable.url)
        connection.execute("DELETE FROM alembic_version")
        none = run(tmp_path, database_url=durable.url)
        connection.execute("INSERT INTO alembic_version VALUES (%s)", (revision,))

    for ended, found, what_to_do in (
        (other, "other", "a newer version made it: run that one"),
        (none, "none", "run `make migrate`"),
    ):
        assert ended.returncode != 0
        assert ended.stderr == (
            f"The database has schema {found}, this server needs {revision}: {what_to_do}.\n"
        )


def test_a_second_server_on_the_port_is_refused_in_one_line(durable: Postgres, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run(tmp_path, database_url=durable.url, listen=listen)

    assert ended.returncode != 0
    assert ended.stderr.splitlines()[-1] == f"cannot listen on {listen}: is another server there?"
    assert "Traceback" not in ended.stderr


def test_development_credentials_on_an_open_address_are_refused_in_one_line(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        database_url="postgresql+psycopg:///krr",
        listen="0.0.0.0:0",
        development_credentials="true",
    )

    assert ended.returncode != 0
    assert "loopback only" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_reflection_lists_the_services_and_health_knows_each(process: ServerProcess) -> None:
    with grpc.insecure_channel(process.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        [answer] = stub.ServerReflectionInfo(iter([asked]), timeout=5)
    services = {service.name for service in answer.list_services_response.service}

    ours = {method.containing_service.full_name for method in RPCS.values()}
    assert services == ours | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    for service in ours:
        assert health(process.address, service) == SERVING


def test_killed_postgresql_makes_health_and_calls_say_so_until_it_is_back(
    durable: Postgres, process: ServerProcess, calls: Rpcs
) -> None:
    wait_for_health(process.address, SERVING, 2)

    durable.kill()
    try:
        wait_for_health(process.address, NOT_SERVING, 2)
        # Backends end a moment after the postmaster: on a busy machine one may still answer.
        wait_until(lambda: look_up(calls).code is not StatusCode.OK, 2, "a dead PostgreSQL answers no more")
        for outcome in (look_up(calls), reserve(calls, OLA)):
            assert (outcome.code, outcome.reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
            assert outcome.retry_after
    finally:
        durable.start()

    wait_for_health(process.address, SERVING, 3)
    assert look_up(calls).code is StatusCode.OK
    assert reserve(calls, OLA).code is StatusCode.OK


def test_a_postgresql_that_hangs_makes_health_say_so_even_when_every_worker_hangs_with_it(
    durable: Postgres, process: ServerProcess, calls: Rpcs
) -> None:
    wait_for_health(process.address, SERVING, 2)

    with ThreadPoolExecutor(40) as pool:
        with durable.stopped():
            hanging = [pool.submit(look_up, calls, 3) for _ in range(40)]
            wait_for_health(process.address, NOT_SERVING, 2)
            codes = {each.result().code for each in hanging}
            assert codes <= {StatusCode.DEADLINE_EXCEEDED, StatusCode.UNAVAILABLE}
            assert health(process.address) == NOT_SERVING
        wait_for_health(process.address, SERVING, 3)
        assert look_up(calls).code is StatusCode.OK


def test_a_deadline_ends_the_statement_in_the_database_too(durable: Postgres, calls: Rpcs) -> None:
    request = register_request(KARI)
    calls.call("CitizenService/RegisterPerson", request, LOG_IN_SERVICE)
    active = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'krr' "
        "AND state <> 'idle' AND query LIKE '%person%'"
    )
    with connect(durable.url) as holder, connect(durable.url) as watcher, holder.transaction():
        holder.execute("SELECT FROM person WHERE identifier = %s FOR UPDATE", (KARI,))
        began = time.monotonic()
        outcome = reserve(calls, KARI, timeout=0.7)
        took = time.monotonic() - began
        assert outcome.code is StatusCode.DEADLINE_EXCEEDED
        assert 0.6 < took < 1.2
        time.sleep(0.3)
        assert watcher.execute(active).fetchone() == (0,)
    assert reserve(calls, KARI).code is StatusCode.OK


def test_a_call_whose_deadline_is_all_but_over_is_not_begun(calls: Rpcs) -> None:
    outcome = reserve(calls, OLA, timeout=0.0001)

    assert outcome.code is StatusCode.DEADLINE_EXCEEDED


def test_sigterm_under_load_loses_no_acknowledged_write_and_ends_within_the_drain(
    durable: Postgres, process: ServerProcess, calls: Rpcs
) -> None:
    acknowledged: list[str] = []
    persons = list(islice(people(), 2000))
    stop = threading.Event()

    def write(share: list[str]) -> set[StatusCode]:
        seen = set()
        for identifier in share:
            outcome = reserve(calls, identifier, timeout=5)
            seen.add(outcome.code)
            if outcome.code is StatusCode.OK:
                acknowledged.append(identifier)
            elif stop.is_set():
                break
        return seen

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, persons[n::8]) for n in range(8)]
        while len(acknowledged) < 100:
            time.sleep(0.005)
        stop.set()
        began = time.monotonic()
        process.ask_to_end()
        process.ask_to_end()
        code = process.process.wait(timeout=30)
        took = time.monotonic() - began
        seen = set().union(*(writer.result() for writer in writers))

    assert code == 0
    assert took < 10
    assert seen <= {StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
    with connect(durable.url) as connection:
        rows = connection.execute("SELECT identifier FROM person WHERE reserved").fetchall()
    assert set(acknowledged) <= {row[0] for row in rows}


def test_a_call_that_hangs_holds_up_the_end_no_longer_than_the_drain(
    durable: Postgres, tmp_path: Path
) -> None:
    with serving(tmp_path, durable.url, drain_seconds="1") as server, connect(durable.url) as holder:
        rpcs = Rpcs(server.address)
        rpcs.call("CitizenService/RegisterPerson", register_request(KARI), LOG_IN_SERVICE)
        with ThreadPoolExecutor(1) as pool, holder.transaction():
            holder.execute("SELECT FROM person WHERE identifier = %s FOR UPDATE", (KARI,))
            hanging = pool.submit(reserve, rpcs, KARI)
            time.sleep(0.3)
            began = time.monotonic()

            assert server.end() == 0
            assert time.monotonic() - began < 4
            assert hanging.result().code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED)
        rpcs.close()


def test_a_server_whose_postgresql_hangs_can_still_be_ended(durable: Postgres, tmp_path: Path) -> None:
    with serving(tmp_path, durable.url, drain_seconds="1") as server:
        rpcs = Rpcs(server.address)
        with ThreadPoolExecutor(1) as pool, durable.stopped():
            hanging = pool.submit(look_up, rpcs)
            time.sleep(0.3)
            assert server.end() == 0
            assert hanging.result().response is None
        rpcs.close()
