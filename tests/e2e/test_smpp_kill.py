"""An SMS adapter is killed after the message centre took the message, before the register knew."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import krr_client
import smpp34
from krr.v1 import admin_service_pb2, person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr_client.push_events import push_events

from tests.adapters.fake_register import eventually
from tests.adapters.message_centre import PASSWORD, SYSTEM_ID, Centre, message_centre
from tests.e2e.parts import Parts, register_alone
from tests.mailbox_events import CHOICE, event
from tests.open_folder import open_folder
from tests.people import DIGIPOST, OLA, request_id
from tests.server.database import connect

MOBILE = "+4799999999"


def test_a_message_that_was_taken_before_the_kill_goes_again_and_is_one_in_the_record() -> None:
    with open_folder() as folder, register_alone(folder) as parts, message_centre() as centre:
        (folder / "password").write_text(PASSWORD)
        centre.answers = [_take_and_say_nothing]
        with _adapter(parts, centre, folder) as adapter:
            _choose(parts)
            eventually(lambda: centre.messages, 60)
            adapter.kill()
            adapter.wait()
        assert _messages(parts) == [("QUEUED", None)]
        with _adapter(parts, centre, folder):
            eventually(lambda: _messages(parts) == [("SENT", centre.ids[-1])], 60)
            assert [kept.short_message for kept in centre.messages] == [centre.messages[0].short_message] * 2
            # What the killed one sent is reported as well, under an id that nobody here has heard of.
            assert centre.report(centre.ids[0], "UNDELIV") == 0
            assert _messages(parts) == [("SENT", centre.ids[1])]
            assert centre.report(centre.ids[1], "DELIVRD") == 0
            assert _messages(parts) == [("DELIVERED", centre.ids[1])]
        for name, text in parts.written():
            assert MOBILE.removeprefix("+") not in text, name


def _take_and_say_nothing(centre: Centre, submitted: smpp34.SubmitSmEvent) -> None:
    # Else the centre would say that it was not taken, once nobody holds it.
    centre.held.append(submitted)
    centre.taken(submitted)


@contextmanager
def _adapter(parts: Parts, centre: Centre, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "KRR_REGISTER": parts.register,
        "KRR_TRACE_DIRECTORY": str(folder / "traces"),
        "KRR_ADAPTER_LEASE_SECONDS": "4",
        "KRR_SMS_GATEWAYS": "smpp",
        "KRR_SMS_GATEWAY_IS_SANDBOX": "true",
        "KRR_SMS_DEADLINE_SECONDS": "2",
        "KRR_SMPP_HOST": "127.0.0.1",
        "KRR_SMPP_PORT": str(centre.port),
        "KRR_SMPP_TLS": "false",
        "KRR_SMPP_SYSTEM_ID": SYSTEM_ID,
        "KRR_SMPP_PASSWORD_FILE": str(folder / "password"),
    }
    with (
        (folder / "sms.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "adapters", "sms"], env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def _choose(parts: Parts) -> None:
    """Have the operator report a person's choice."""
    person = admin_service_pb2.PersonToLoad(
        identifier=OLA,
        status=person_pb2.PERSON_STATUS_ACTIVE,
        reservation=person_pb2.RESERVATION_NOT_RESERVED,
        mailboxes=[person_pb2.Mailbox(operator_organisation_number=DIGIPOST, address="synthetic#0001")],
    )
    person.mobile.value = MOBILE
    person.mobile.updated_time.GetCurrentTime()
    with krr_client.connect(parts.register, "Development administrator/test") as channel:
        AdminServiceStub(channel).LoadPersons(
            admin_service_pb2.LoadPersonsRequest(request_id=request_id(), persons=[person])
        )
    with krr_client.connect(parts.register, f"Development operator/{DIGIPOST}") as channel:
        assert len(list(push_events(channel, [event(OLA, choose=CHOICE)], give_up_after=60))) == 1


def _messages(parts: Parts) -> list[tuple[str, str | None]]:
    """State, and the centre's id, of every message of the register."""
    with connect(parts.database_url) as database:
        return database.execute("SELECT state, gateway_message_id FROM message").fetchall()
