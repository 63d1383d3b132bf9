"""A citizen without account chooses Digipost, whose adapter is killed between the opening and its outcome."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import krr_client
import pytest
from krr.v1 import admin_service_pb2 as admin
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import person_pb2
from starlette.responses import Response

from adapters.sandbox import digipost, eboks, link
from adapters.sandbox.control import running
from tests.adapters.faulty_link import Passing, faulty_link
from tests.conftest import Register
from tests.e2e.parts import Mails, Parts, mail_server
from tests.open_folder import open_folder
from tests.people import DIGIPOST, OLA, register_request, request_id

# Many times what it takes: a lease that runs out, and the wait after it for what may come late.
PATIENCE = 90.0


@dataclass(frozen=True)
class Finished:
    """What is where in the end.

    asked: the answer to the choice.
    openings: requests at Digipost to open an account.
    """

    asked: "person_pb2.WriteResult.ValueType"
    entry: citizen.GetPersonResponse
    accounts: list[dict[str, Any]]
    sms: list[dict[str, Any]]
    openings: int


@pytest.fixture(scope="module")
def finished() -> Iterator[Finished]:
    opened = threading.Event()

    async def open_and_say_nothing(passing: Passing) -> Response:
        await passing.forward()
        opened.set()
        await passing.wait()
        return await passing.cut()

    with ExitStack() as stack:
        folder = stack.enter_context(open_folder())
        way = stack.enter_context(faulty_link())
        suppliers = {
            name: stack.enter_context(running(module.make_app(folder / name, "127.0.0.1:1")))
            for name, module in (("digipost", digipost), ("eboks", eboks), ("link", link))
        }
        suppliers["mail"] = stack.enter_context(mail_server(Mails()))
        way.operator_url = suppliers["digipost"]
        parts = Parts(folder, suppliers | {"digipost": way.url})
        stack.callback(parts.end)
        register = Register(
            lambda caller: stack.enter_context(krr_client.connect(parts.register, f"Development {caller}"))
        )
        own, staff = register.as_citizen(OLA), register.as_administrator()
        register.as_log_in_service().RegisterPerson(register_request(OLA))
        # The entry point comes first, then the opening.
        way.spoil(1, open_and_say_nothing)
        asked = own.ChooseMailbox(
            citizen.ChooseMailboxRequest(
                request_id=request_id(),
                identifier=OLA,
                operator_organisation_number=DIGIPOST,
                open_account=True,
            )
        ).answer.result
        assert opened.wait(PATIENCE)
        parts.kill("digipost")
        ends = time.monotonic() + PATIENCE
        while True:
            entry = own.GetPerson(citizen.GetPersonRequest(identifier=OLA))
            sms = httpx.get(f"{suppliers['link']}/sandbox/messages").json()
            if sms and not staff.ListDeliveries(admin.ListDeliveriesRequest()).deliveries:
                break
            assert time.monotonic() < ends, f"never there: {entry}"
            time.sleep(0.2)
        yield Finished(
            asked,
            own.GetPerson(citizen.GetPersonRequest(identifier=OLA)),
            httpx.get(f"{suppliers['digipost']}/sandbox/accounts").json(),
            httpx.get(f"{suppliers['link']}/sandbox/messages").json(),
            sum("UserAccounts" in target for target in way.targets),
        )


def test_the_account_was_asked_for_again_after_the_kill_and_there_is_one_with_public_mail(
    finished: Finished,
) -> None:
    assert finished.asked == person_pb2.WRITE_RESULT_ACCOUNT_REQUESTED
    assert finished.openings >= 2
    [account] = finished.accounts
    assert (account["identifier"], account["receives_public_mail"]) == (OLA, True)


def test_the_register_holds_its_address_and_the_choice(finished: Finished) -> None:
    [own] = finished.entry.mailboxes
    assert (own.mailbox.address, own.chosen) == (finished.accounts[0]["address"], True)
    assert own.operator_state == citizen.OPERATOR_STATE_IN_STEP
    assert not finished.entry.HasField("account_request")


def test_one_sms_confirms_it(finished: Finished) -> None:
    assert len(finished.sms) == 1
