"""Bad values in every field of every request: refused with a reason, nothing half done."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import admin_service_pb2, error_reason_pb2, mailbox_operator_service_pb2
from psycopg import Connection

from server.domain.errors import Reason
from server.errors import STATUS
from tests.people import request_id
from tests.server.database import REGISTER_TABLES, contents
from tests.server.rpcs import RPCS, Outcome, Rpcs
from tests.server.valid_requests import Valid, valid_requests

OVERLONG = "x" * 100_000
INT32, INT64 = 2**31 - 1, 2**63 - 1

# Bad values that do no harm: they are answered in the entry, match nothing, or are ignored
# as the contract says.
HARMLESS = {
    ("RegisterService/LookUpPersons", "identifiers"),
    ("RegisterService/LookUpPersonsStream", "identifiers"),
    ("AdminService/ListDeliveries", "min_failed_attempts"),
    ("AdminService/RetryDeliveries", "delivery_ids"),
    ("AdminService/ListMessages", "change_number"),
    ("AdminService/ImportPersons", "rows.row"),
    ("AdminService/ImportPersons", "rows.person.email.usable_until_time"),
    ("AdminService/ImportPersons", "rows.person.mobile.usable_until_time"),
    ("AdminService/LoadPersons", "persons.email.usable_until_time"),
    ("AdminService/LoadPersons", "persons.mobile.usable_until_time"),
    *(
        (f"MailboxOperatorService/{rpc}", f"{path}details.{field}")
        for rpc, path in (
            ("CreateMailbox", ""),
            ("ChooseMailbox", ""),
            ("CreateAndChooseMailbox", ""),
            ("UpdateMailbox", ""),
            ("DeleteMailbox", ""),
            ("PushEvents", "events."),
        )
        # The highest sequence there can be, and any time that can be.
        for field in ("sequence", "occurred_time")
    ),
}
_KEYS = ("request_id", "event_id")
_DONE = (
    mailbox_operator_service_pb2.MAILBOX_RESULT_OK,
    mailbox_operator_service_pb2.MAILBOX_RESULT_MAY_CHOOSE,
)

_Path = tuple[FieldDescriptor, ...]


def fields(message: Descriptor, above: _Path = ()) -> Iterator[_Path]:
    """The path of every field that holds a value, through the messages in the request."""
    for field in message.fields:
        inner = field.message_type
        if inner is None or inner.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
            yield (*above, field)
        else:
            yield from fields(inner, (*above, field))


def bad_values(field: FieldDescriptor, valid: Any) -> list[Any]:
    """Values that the field may not have; valid: the one that it has."""
    if field.message_type is not None:
        if field.message_type.full_name == "google.protobuf.Timestamp":
            return [
                *(Timestamp(seconds=seconds) for seconds in (-1, -62135596801, 253402300800, INT64, -INT64)),
                *(Timestamp(seconds=valid.seconds, nanos=nanos) for nanos in (-1, 10**9, INT32)),
                Timestamp(seconds=4_000_000_000),
            ]
        return [
            *(Duration(seconds=seconds) for seconds in (-1, 86_401, INT64, -INT64)),
            Duration(seconds=86_400, nanos=INT32),
            Duration(nanos=-INT32),
        ]
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return [
                "\0",
                valid + "\0",
                valid[:1] + "\0" + valid[1:],
                "\r\n",
                valid + "\r\n",
                valid + OVERLONG,
            ]
        case FieldDescriptor.TYPE_BYTES:
            return [b"\0", valid + b"\0", b"\r\n", valid[:-1], OVERLONG.encode(), valid + OVERLONG.encode()]
        case FieldDescriptor.TYPE_BOOL:
            # Neither of the two is bad.
            return []
        case FieldDescriptor.TYPE_ENUM:
            return [99, -1, INT32, -INT32]
        case FieldDescriptor.TYPE_INT32:
            return [-1, INT32, -INT32 - 1]
        case FieldDescriptor.TYPE_INT64:
            return [-1, INT64, -INT64 - 1]
    raise AssertionError(f"say which values {field.full_name} may not have")


def holder(request: Message, path: _Path) -> Any:
    """The message in the request that holds the field; the first, perhaps new, of each repeated one."""
    message: Any = request
    for field in path[:-1]:
        message = getattr(message, field.name)
        if field.is_repeated:
            message = message[0] if message else message.add()
    return message


def spoilt(request: Any, path: _Path) -> Iterator[tuple[Any, Any]]:
    """Copies of the request, each with one bad value in the field, and that value."""
    field, read = path[-1], type(request)()
    read.CopyFrom(request)
    present = getattr(holder(read, path), field.name)
    valid = present if not field.is_repeated else present[0] if present else _empty(field)
    for value in bad_values(field, valid):
        copy = type(request)()
        copy.CopyFrom(request)
        for named in (copy, *getattr(copy, "events", ())):
            for key in _KEYS:
                if key in named.DESCRIPTOR.fields_by_name:
                    setattr(named, key, request_id())
        if isinstance(copy, admin_service_pb2.ImportPersonsRequest):
            # Another import, whose rows are not done yet.
            copy.import_id = request_id()
        message = holder(copy, path)
        if field.is_repeated:
            del getattr(message, field.name)[:1]
            getattr(message, field.name).insert(0, value)
        elif isinstance(value, Message):
            getattr(message, field.name).CopyFrom(value)
        else:
            setattr(message, field.name, value)
        yield copy, value


def _empty(field: FieldDescriptor) -> Any:
    return "" if field.type == FieldDescriptor.TYPE_STRING else 0


def result_of(response: Any) -> int | None:
    """The result of an operator's call; None for another's."""
    if response.DESCRIPTOR.name == "PushEventsResponse":
        response = response.acknowledgements[0]
    answer = getattr(response, "answer", response)
    if answer.DESCRIPTOR.name in ("MailboxAnswer", "MayChooseMailboxResponse"):
        return int(answer.result)
    return None


def is_reported(response: Any) -> bool:
    """Whether the row of an import stands in the import's report."""
    imported = getattr(response, "import", None)
    return imported is not None and bool(imported.rejected_count)


def is_clear(outcome: Outcome) -> bool:
    """Whether the refusal is one that the contract declares, and no fault."""
    declared = error_reason_pb2.ErrorReason.keys()
    names = [name.removeprefix("ERROR_REASON_") for name in declared]
    return (
        len(outcome.infos) == 1
        and outcome.reason in names
        and outcome.reason != "INTERNAL"
        and outcome.code is STATUS[Reason[outcome.reason]]
    )


def quotes(outcome: Outcome, value: Any) -> bool:
    """Whether what the caller was told repeats what it gave."""
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        return False
    return any(len(part) > 5 and part in outcome.told for part in (text[:11], text[-11:], text.strip()))


@pytest.fixture
def valid(rpcs: Rpcs) -> Any:
    return valid_requests(rpcs)


def test_every_rpc_has_a_valid_request_to_spoil(valid: dict[str, Valid]) -> None:
    assert set(valid) == set(RPCS)


@pytest.mark.parametrize("rpc", RPCS)
def test_a_bad_value_in_any_field_is_refused_with_a_reason_and_changes_nothing(
    rpc: str, rpcs: Rpcs, valid: dict[str, Valid], database: "Connection[Any]"
) -> None:
    caller, request = valid[rpc]
    before = contents(database, (*REGISTER_TABLES, "request"))

    for path in fields(RPCS[rpc].input_type):
        name = ".".join(field.name for field in path)
        for bad, value in spoilt(request, path):
            what = f"{rpc} {name} = {str(value)[:40]!r}"
            outcome = rpcs.call(rpc, bad, caller)
            if outcome.response is None:
                assert is_clear(outcome), f"{what}: {outcome.code.name} {outcome.infos}"
                assert not quotes(outcome, value), f"{what}: {outcome.told}"
                assert contents(database, (*REGISTER_TABLES, "request")) == before, what
                continue
            result = result_of(outcome.response)
            if result is None:
                assert (rpc, name) in HARMLESS or is_reported(outcome.response), what
                before = contents(database, (*REGISTER_TABLES, "request"))
            else:
                if (rpc, name) not in HARMLESS:
                    assert result not in _DONE, what
                    assert contents(database) == {table: before[table] for table in REGISTER_TABLES}, what
                before = contents(database, (*REGISTER_TABLES, "request"))

    # The ids in it were not used up, nor were the leases.
    assert rpcs.call(rpc, request, caller).response is not None


def test_a_certificate_of_a_version_that_does_not_exist_is_an_invalid_certificate(
    rpcs: Rpcs, valid: dict[str, Valid]
) -> None:
    caller, request = valid["MailboxOperatorService/CreateMailbox"]
    version_3 = bytes.fromhex("a003020102")
    request.certificate = request.certificate.replace(version_3, bytes.fromhex("a003020109"), 1)

    answer = rpcs.call("MailboxOperatorService/CreateMailbox", request, caller).response.answer

    assert answer.result == mailbox_operator_service_pb2.MAILBOX_RESULT_INVALID_CERTIFICATE
