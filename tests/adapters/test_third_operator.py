"""A third operator, written from the template: the suite, and a register whose choices and sweeps reach it.

Nothing but configuration makes it known: KRR_MAILBOX_OPERATORS at the register, and the
adapter's class on the command line.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from krr.v1 import admin_service_pb2 as admin
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import mailbox_operator_service_pb2 as pushed
from krr.v1 import sweep_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr.v1.citizen_service_pb2_grpc import CitizenServiceStub
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub
from krr_client import connect

from tests.adapters.conformance import AdapterConformance, Operator
from tests.adapters.eboks_sandbox import EBoks
from tests.adapters.fake_register import eventually
from tests.adapters.sandbox import PERSON
from tests.adapters.third_operator_sandbox import ThirdOperator, third_operator
from tests.people import PUBLIC_BODY, register_request, request_id
from tests.server.process import ServerProcess, environment

THIRD = "313131319"


class TestThirdOperator(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def running(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThirdOperator]:
        with third_operator(tmp_path_factory.mktemp("third")) as operator:
            yield operator

    @pytest.fixture
    def operator(self, running: ThirdOperator) -> Operator:
        running.begin_anew()
        return running


@pytest.fixture
def register(database_url: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """The server as a process, told of the third operator by its configuration."""
    third = {"organisation_number": THIRD, "name": "Third", "adapter": "third"}
    process = ServerProcess(
        tmp_path / "server",
        database_url,
        mailbox_operators=json.dumps([third]),
        sweep_days="0",
        test_accept_unsafe_postgresql="true",
    )
    try:
        yield process
    finally:
        process.end()


@contextmanager
def adapter_running(register: ServerProcess, folder: Path, adapter: str, **settings: str) -> Iterator[None]:
    """`python -m adapters` as the third operator's, until the end."""
    here = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    told = environment(
        register=register.address,
        adapter_name="third",
        adapter_read_idle_seconds="0.2",
        trace_directory=str(folder / "traces"),
        **settings,
    )
    program = subprocess.Popen([sys.executable, "-m", "adapters", adapter], env=told | {"PYTHONPATH": here})
    try:
        yield
    finally:
        program.terminate()
        program.wait(timeout=60)


def test_a_choice_reaches_the_third_operator_and_so_does_its_end(
    register: ServerProcess, tmp_path: Path
) -> None:
    with (
        third_operator(tmp_path) as operator,
        adapter_running(
            register,
            tmp_path,
            "tests.adapters.third_operator:ThirdOperatorAdapter",
            third_url=operator.url,
            third_key_file=str(operator.key_file),
        ),
    ):
        _choose(register, operator)
        _sweep_finds(register, operator, differences=1)
        _reserve(register, operator)


def test_an_operator_that_serves_our_contract_needs_no_adapter_of_its_own(
    register: ServerProcess, eboks: EBoks, tmp_path: Path
) -> None:
    with adapter_running(
        register,
        tmp_path,
        "eboks",
        eboks_url=eboks.url,
        eboks_token_file=str(eboks.token_file),
        eboks_lists_accounts="true",
    ):
        _choose(register, eboks)
        # The choice, and the address.
        _sweep_finds(register, eboks, differences=2)
        _reserve(register, eboks)


def _choose(register: ServerProcess, operator: ThirdOperator | EBoks) -> None:
    """PERSON chooses the operator, which hears of it."""
    with (
        connect(register.address, f"Development log-in-service/{PUBLIC_BODY}") as log_in,
        connect(register.address, f"Development operator/{THIRD}") as third,
    ):
        CitizenServiceStub(log_in).RegisterPerson(register_request(PERSON))
        opened = MailboxOperatorServiceStub(third).CreateAndChooseMailbox(
            pushed.CreateAndChooseMailboxRequest(
                event_id=request_id(), identifier=PERSON, address="kari.nordmann#3RD"
            )
        )
        assert opened.answer.result == pushed.MAILBOX_RESULT_OK
        eventually(operator.receives_public_mail, 60)


def _sweep_finds(register: ServerProcess, operator: ThirdOperator | EBoks, *, differences: int) -> None:
    """The operator's staff switches PERSON off; a sweep puts that right, and another finds nothing."""
    with connect(register.address, "Development administrator/staff") as channel:
        staff = AdminServiceStub(channel)
        # While a delivery is under way, nothing is compared.
        eventually(lambda: not staff.ListDeliveries(admin.ListDeliveriesRequest()).deliveries, 60)
        operator.seed(receives=False)
        for found in (differences, 0):
            swept = _swept(staff)
            assert (swept.compared_count, swept.difference_count, swept.repaired_count) == (1, found, found)
            eventually(operator.receives_public_mail, 60)
            eventually(lambda: not staff.ListDeliveries(admin.ListDeliveriesRequest()).deliveries, 60)


def _swept(staff: AdminServiceStub) -> sweep_pb2.Sweep:
    """A sweep of the third operator, at its end."""
    start = sweep_pb2.StartSweepRequest(request_id=request_id(), adapter="third")
    get = sweep_pb2.GetSweepRequest(sweep_id=staff.StartSweep(start).sweep_id)
    eventually(lambda: staff.GetSweep(get).sweep.state != sweep_pb2.SWEEP_STATE_RUNNING, 60)
    swept = staff.GetSweep(get).sweep
    assert swept.state == sweep_pb2.SWEEP_STATE_FINISHED
    return swept


def _reserve(register: ServerProcess, operator: ThirdOperator | EBoks) -> None:
    """PERSON reserves, and the operator hears of that."""
    with connect(register.address, f"Development citizen/{PERSON}") as person:
        CitizenServiceStub(person).Reserve(citizen.ReserveRequest(request_id=request_id(), identifier=PERSON))
        eventually(lambda: not operator.receives_public_mail(), 60)
