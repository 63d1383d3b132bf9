"""Spans and logs: they follow the caller's trace, and hold nothing personal."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import citizen_service_pb2, delivery_service_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from tests.people import KARI, NIELS, OLA, request_id
from tests.server.database import connect
from tests.server.process import ServerProcess, serving
from tests.server.rpcs import RPCS, Rpcs
from tests.server.test_bad_input import fields, spoilt
from tests.server.valid_requests import ADMINISTRATOR, PERSONAL, valid_requests

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
OF_THE_LOADED = ("loaded@example.com", "93456789", "loaded#1234")


def test_a_call_and_its_statements_are_spans_of_the_callers_trace(
    rpcs: Rpcs, spans: Callable[[], list[ReadableSpan]]
) -> None:
    caller, request = valid_requests(rpcs)["CitizenService/ChooseMailbox"]
    already = len(spans())

    rpcs.call("CitizenService/ChooseMailbox", request, caller, metadata=TRACEPARENT)

    own = [span for span in spans()[already:] if f"{span.context.trace_id:032x}" == TRACE]
    *statements, call = own
    assert call.name == "krr.v1.CitizenService/ChooseMailbox"
    assert call.kind is SpanKind.SERVER
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == PARENT
    assert dict(call.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "krr.v1.CitizenService/ChooseMailbox",
        "krr.caller.kind": "citizen",
        "rpc.response.status_code": "OK",
    }
    assert all(span.parent == call.context for span in statements)
    names = [span.name for span in statements]
    for name in ("INSERT request", "SELECT person", "WITH register person history", "INSERT message"):
        assert name in names
    assert names.index("WITH register person history") > names.index("SELECT person")


def test_a_span_of_a_statement_has_its_name_and_nothing_else_of_it(
    rpcs: Rpcs, spans: Callable[[], list[ReadableSpan]]
) -> None:
    for rpc, (caller, request) in valid_requests(rpcs).items():
        rpcs.call(rpc, request, caller)

    statements = [span for span in spans() if span.kind is SpanKind.CLIENT]
    assert len(statements) > 100
    for span in statements:
        assert set(span.attributes or {}) <= {
            "db.system.name",
            "db.query.summary",
            "db.response.status_code",
        }
        assert len(span.name) < 60, span.name
        assert not set(span.name) & set("='%:()\n"), span.name
        assert not span.events


def test_a_refused_call_is_a_span_with_its_reason(
    rpcs: Rpcs, spans: Callable[[], list[ReadableSpan]]
) -> None:
    rpcs.call(
        "CitizenService/GetPerson",
        citizen_service_pb2.GetPersonRequest(identifier=KARI),
        f"citizen/{OLA}",
        metadata=TRACEPARENT,
    )

    [call] = [span for span in spans() if f"{span.context.trace_id:032x}" == TRACE]
    assert dict(call.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "krr.v1.CitizenService/GetPerson",
        "krr.caller.kind": "citizen",
        "krr.reason": "OTHER_PERSON",
        "rpc.response.status_code": "PERMISSION_DENIED",
    }
    assert not call.events
    assert not call.status.description


@pytest.mark.parametrize("traceparent", ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", OLA, "x" * 4000])
def test_a_malformed_traceparent_starts_a_trace_of_its_own(
    rpcs: Rpcs, spans: Callable[[], list[ReadableSpan]], traceparent: str
) -> None:
    outcome = rpcs.call(
        "AdminService/ListMessages", caller=ADMINISTRATOR, metadata=(("traceparent", traceparent),)
    )

    assert outcome.code is StatusCode.OK
    [call] = [span for span in spans() if span.kind is SpanKind.SERVER]
    assert call.parent is None
    assert OLA not in call.to_json()


def kari_chooses_eboks(rpcs: Rpcs, traceparent: str) -> tuple[Any, Any]:
    """The delivery and the message that her call with the traceparent causes, as they are leased."""
    valid = valid_requests(rpcs)
    caller, request = valid["CitizenService/ChooseMailbox"]
    outcome = rpcs.call(
        "CitizenService/ChooseMailbox", request, caller, metadata=(("traceparent", traceparent),)
    )
    assert outcome.code is StatusCode.OK
    leased = []
    for rpc, adapter in (("LeaseDeliveries", "eboks"), ("LeaseMessages", "sms")):
        lease = valid[f"DeliveryService/{rpc}"].request
        leased.append(rpcs.call(f"DeliveryService/{rpc}", lease, f"adapter/{adapter}").response)
    [delivery], [message] = leased[0].deliveries, leased[1].messages
    return delivery, message


def listed_trace_ids(rpcs: Rpcs, change_number: int) -> list[str]:
    deliveries = rpcs.call("AdminService/ListDeliveries", caller=ADMINISTRATOR).response.deliveries
    messages = rpcs.call("AdminService/ListMessages", caller=ADMINISTRATOR).response.messages
    return [each.trace_id for each in (*deliveries, *messages) if each.change_number == change_number]


def receipt_for(message: Any) -> delivery_service_pb2.RecordReceiptRequest:
    return delivery_service_pb2.RecordReceiptRequest(
        receipt_token=message.receipt_token, delivered=delivery_service_pb2.MessageDelivered()
    )


def test_what_a_call_causes_keeps_its_trace_for_adapters_and_staff(
    rpcs: Rpcs, spans: Callable[[], list[ReadableSpan]]
) -> None:
    delivery, message = kari_chooses_eboks(rpcs, f"00-{TRACE}-{PARENT}-01")

    [call] = [span for span in spans() if span.name == "krr.v1.CitizenService/ChooseMailbox"]
    kept = f"00-{TRACE}-{call.context.span_id:016x}-01"
    assert (delivery.trace_parent, message.trace_parent) == (kept, kept)
    assert listed_trace_ids(rpcs, delivery.change_number) == [TRACE, TRACE]


def test_each_receipt_is_linked_to_the_call_that_caused_its_message(
    rpcs: Rpcs, spans: Callable[[], list[ReadableSpan]]
) -> None:
    _, message = kari_chooses_eboks(rpcs, f"00-{TRACE}-{PARENT}-01")

    for _ in ("the first", "repeated"):
        rpcs.call("DeliveryService/RecordReceipt", receipt_for(message), "adapter/sms")

    ended = {name: [span for span in spans() if span.name.endswith(name)] for name in ("Receipt", "Mailbox")}
    [call] = [span for span in ended["Mailbox"] if f"{span.context.trace_id:032x}" == TRACE]
    assert len(ended["Receipt"]) == 2
    for receipt in ended["Receipt"]:
        [link] = receipt.links
        assert (link.context.trace_id, link.context.span_id) == (call.context.trace_id, call.context.span_id)
        assert receipt.context.trace_id != call.context.trace_id


def test_what_an_unrecorded_call_causes_names_no_trace_and_its_receipt_has_no_link(
    rpcs: Rpcs, spans: Callable[[], list[ReadableSpan]]
) -> None:
    delivery, message = kari_chooses_eboks(rpcs, f"00-{TRACE}-{PARENT}-00")

    recorded = rpcs.call("DeliveryService/RecordReceipt", receipt_for(message), "adapter/sms")

    assert recorded.code is StatusCode.OK
    assert (delivery.trace_parent, message.trace_parent) == ("", "")
    assert listed_trace_ids(rpcs, delivery.change_number) == ["", ""]
    [receipt] = [span for span in spans() if span.name.endswith("RecordReceipt")]
    assert not receipt.links


@pytest.fixture
def process(database_url: str, tmp_path: Path) -> Iterator[ServerProcess]:
    with serving(tmp_path, database_url, test_accept_unsafe_postgresql="true") as server:
        yield server


def raw(address: str, body: bytes) -> Any:
    """Send what is no request."""
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/krr.v1.CitizenService/RegisterPerson")
        with pytest.raises(grpc.RpcError) as refused:
            call(body, metadata=(("authorization", f"Development citizen/{OLA}"),), timeout=5)
        return refused.value


def test_a_run_of_every_rpc_good_and_bad_writes_nothing_personal_anywhere(
    process: ServerProcess, database_url: str
) -> None:
    rpcs = Rpcs(process.address)
    told = []
    valid = valid_requests(rpcs)
    assert set(valid) == set(RPCS)
    for rpc, (caller, request) in valid.items():
        for path in fields(RPCS[rpc].input_type):
            told += [rpcs.call(rpc, bad, caller).told for bad, _ in list(spoilt(request, path))[:3]]
    for rpc, (caller, request) in valid.items():
        told += [rpcs.call(rpc, request, caller).told, rpcs.call(rpc, request, caller).told]
        told.append(rpcs.call(rpc, request, f"citizen/{NIELS}").told)
        told.append(rpcs.call(rpc, request, f"nobody/{OLA}").told)
    for body in (OLA.encode() * 3, b"\x12\x0b" + OLA.encode() + b"\x1a\x05\xff\xfe\xfd\xfc\xfb", b"\x12\xff"):
        told.append(str(raw(process.address, body).details()))
    with connect(database_url) as connection:
        # PostgreSQL's message quotes the whole row.
        connection.execute("ALTER TABLE person ADD CONSTRAINT broken CHECK (status = 'x') NOT VALID")
    caller, reserve = valid["CitizenService/Reserve"]
    reserve.request_id = request_id()
    reserve.ClearField("expected_change_number")
    broken = rpcs.call("CitizenService/Reserve", reserve, caller)
    assert broken.code is StatusCode.INTERNAL
    told.append(broken.told)
    rpcs.close()

    assert process.end() == 0

    log, spans = process.log.read_text(), process.spans.read_text()
    assert "internal_fault" in log
    called = {json.loads(line)["name"].removeprefix("krr.v1.") for line in spans.splitlines()}
    assert called >= set(RPCS)
    for personal in (*PERSONAL, *OF_THE_LOADED):
        for where, text in (("log", log), ("spans", spans), ("errors", "\n".join(told))):
            assert personal not in text, f"{personal} in {where}"
