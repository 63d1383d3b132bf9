"""A call and what it caused later, in other processes, read from the trace files as one story."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import krr_client
import pytest
from krr.v1 import admin_service_pb2 as admin
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import mailbox_operator_service_pb2 as operator
from krr.v1 import message_record_pb2
from krr_cli.__main__ import app
from typer.testing import CliRunner

from tests.conftest import Register
from tests.e2e.parts import Parts, all_parts
from tests.open_folder import open_folder
from tests.people import DIGIPOST, PUBLIC_BODY, request_id, synthetic_identifiers

[PERSON] = itertools.islice(synthetic_identifiers(), 1)
ADDRESS, MOBILE = "synthetic.person#1", "+4799955511"
CREATE = "krr.v1.MailboxOperatorService/CreateAndChooseMailbox"


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Path, str]]:
    """Where the spans are, and the trace id that the register's own list of messages gives, after
    an operator's report whose SMS has arrived."""
    with open_folder() as folder:
        with all_parts(folder) as parts:
            _report(parts)
            message = _delivered_message(parts)
        # Ended parts have written all their spans.
        yield folder / "traces", message.trace_id


def test_the_trace_of_an_operators_report_leads_to_the_delivery_the_sms_and_its_receipt(
    told: tuple[Path, str],
) -> None:
    directory, trace_id = told

    spans = [json.loads(line) for line in _krr_trace(directory, trace_id, "--json").splitlines()]

    by_name = {span["name"]: span for span in spans}
    call = by_name[CREATE]
    assert call["context"]["trace_id"] == f"0x{trace_id}"
    for name in ("deliver digipost", "deliver sms", "krr.v1.DeliveryService/RecordReceipt"):
        [link] = by_name[name]["links"]
        assert link["context"] == call["context"]
        assert by_name[name]["context"]["trace_id"] != call["context"]["trace_id"]
    assert by_name["link send"]["parent_id"] == by_name["deliver sms"]["context"]["span_id"]
    for finish, deliver in (("FinishDelivery", "deliver digipost"), ("FinishMessage", "deliver sms")):
        at_server = by_name[f"krr.v1.DeliveryService/{finish}"]
        assert at_server["context"]["trace_id"] == by_name[deliver]["context"]["trace_id"]


def test_the_tree_reads_as_a_story_and_holds_nothing_personal(told: tuple[Path, str]) -> None:
    directory, trace_id = told

    tree = _krr_trace(directory, trace_id[:8])

    below_the_call = tree[tree.index(CREATE) :]
    for name in ("deliver digipost", "deliver sms", "link send", " krr.v1.DeliveryService/RecordReceipt"):
        assert below_the_call.count(name) == 1, tree
    for personal in (PERSON, ADDRESS, MOBILE):
        assert personal not in tree


def _krr_trace(directory: Path, *arguments: str) -> str:
    run = CliRunner().invoke(app, ["trace", *arguments, "--directory", str(directory)])
    assert (run.exit_code, run.stderr) == (0, "")
    return run.stdout


def _report(parts: Parts) -> None:
    account = {"identifier": PERSON, "address": ADDRESS, "receives_public_mail": False}
    httpx.put(f"{parts.suppliers['digipost']}/sandbox/accounts", json=[account]).raise_for_status()
    with _calling(parts, f"log-in-service/{PUBLIC_BODY}") as register:
        register.as_log_in_service().RegisterPerson(
            citizen.RegisterPersonRequest(request_id=request_id(), identifier=PERSON, mobile=MOBILE)
        )
    with _calling(parts, f"operator/{DIGIPOST}") as register:
        register.as_digipost().CreateAndChooseMailbox(
            operator.CreateAndChooseMailboxRequest(event_id=request_id(), identifier=PERSON, address=ADDRESS)
        )


def _delivered_message(parts: Parts) -> message_record_pb2.MessageStatus:
    ends = time.monotonic() + 20
    with _calling(parts, "administrator/test") as register:
        staff = register.as_administrator()
        while time.monotonic() < ends:
            waiting = staff.ListDeliveries(admin.ListDeliveriesRequest()).deliveries
            [message] = staff.ListMessages(message_record_pb2.ListMessagesRequest()).messages
            if message.state == message_record_pb2.MESSAGE_STATE_DELIVERED and not waiting:
                return message
            time.sleep(0.1)
    raise AssertionError("the SMS never arrived")


@contextmanager
def _calling(parts: Parts, caller: str) -> Iterator[Register]:
    with krr_client.connect(parts.register, f"Development {caller}") as channel:
        yield Register(lambda _: channel)
