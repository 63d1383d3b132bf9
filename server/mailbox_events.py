"""What operators report of their mailboxes: read from the contract, applied one by one or pushed.

Pushed events are committed in groups, so that a commit is paid for once for many.
"""

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import mailbox_event_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb

from server import translate
from server.call import Call
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.evidence import AssuranceLevel, Evidence, parse_eid, parse_sha256
from server.domain.identifiers import OrganisationNumber, PersonIdentifier, parse_mailbox_address
from server.domain.person import Mailbox, Person
from server.domain.rules import MAX_BATCH
from server.store.mailbox_events import Event, apply_events
from server.store.store import Store
from server.store.transaction import Answer, Transaction, WriteRequest
from server.tokens import Tokens

# Other writers wait while a group is entered: 0.1 ms an event. What a group costs besides hardly
# counts from here on.
GROUP = 100
# Of an operator: more would only wait for each other, and take connections from others' calls.
_GROUPS_AT_ONCE = 2
# An operator's clock may be ahead of ours.
_CLOCKS_DIFFER = timedelta(minutes=5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_SEQUENCE = 2**63 - 1

_LEVELS = {
    mailbox_event_pb2.AssuranceLevel.Value(f"ASSURANCE_LEVEL_{level.name}"): level for level in AssuranceLevel
}
_WITH_MAILBOX: dict[str, Callable[[Person, Mailbox], Person]] = {
    "create": Person.create_mailbox,
    "create_and_choose": Person.create_and_choose_mailbox,
    "update": Person.update_mailbox,
}
_WITHOUT: dict[str, Callable[[Person, OrganisationNumber], Person]] = {
    "choose": Person.fill_choice,
    "delete": Person.delete_mailbox,
}

_log = structlog.get_logger()


@dataclass(frozen=True)
class Reported:
    """An event as it came.

    request: by which it is known again; None where it cannot be.
    event: what it says, or the result that it is answered with.
    """

    event_id: str
    request: WriteRequest | None
    event: Event | str


class MailboxEvents:
    """Takes the events of operators."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        now: Callable[[], datetime],
        parse_identifier: Callable[[str], PersonIdentifier],
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._now = now
        self._parse_identifier = parse_identifier
        self._turns = {each: threading.BoundedSemaphore(_GROUPS_AT_ONCE) for each in store.operators}

    def write(
        self, request: Any, call: Call, operator: OrganisationNumber, operation: str
    ) -> pb.MailboxAnswer:
        """Apply the event of a unary call.

        request: with the fields of the operation's message in MailboxEvent, and those of the event.

        Raises Refusal: what is wrong with the event's id or details, or as Store.write.
        """
        known_by = translate.write_request(request, request.event_id, "event_id")
        evidence = _details_from(request.details, self._now(), counted=False)
        event = self._event(operator, operation, request, request, evidence)

        def do(transaction: Transaction) -> Answer:
            [answer] = self._answers(transaction, operator, [event])
            return answer

        return self._answer_to(self._store.write(call.caller, do, deadline=call.deadline, request=known_by))

    def push(
        self, requests: Iterable[pb.PushEventsRequest], call: Call, operator: OrganisationNumber
    ) -> Iterator[pb.PushEventsResponse]:
        """Apply the events of a stream, and acknowledge each once it is committed, in order.

        Raises Refusal: BATCH_SIZE, or as Store.write_many; what was acknowledged by then is done.
        """
        for request in requests:
            translate.batch_size_in("events", len(request.events), MAX_BATCH)
            reported = (self._reported(operator, event) for event in request.events)
            for group in groups(reported):
                yield from self._acknowledged(group, call, operator)

    def _acknowledged(
        self, group: Sequence[Reported], call: Call, operator: OrganisationNumber
    ) -> Iterator[pb.PushEventsResponse]:
        try:
            response = self._applied(group, call, operator)
        except Exception as fault:
            if len(group) == 1 or (isinstance(fault, Refusal) and fault.reason is not Reason.CONFLICT):
                raise
            # Nothing of the group was done. Whatever it is, it may be the fault of one event only.
            _log.warning("events_one_by_one", events=len(group), exception=type(fault).__name__)
        else:
            yield response
            return
        for each in group:
            yield self._applied([each], call, operator)

    def _applied(
        self, group: Sequence[Reported], call: Call, operator: OrganisationNumber
    ) -> pb.PushEventsResponse:
        """Apply the group in one transaction."""
        known = [(each.request, each.event) for each in group if each.request]

        def do(transaction: Transaction, new: Sequence[int]) -> Sequence[Answer]:
            return self._answers(transaction, operator, [known[place][1] for place in new])

        requests = [request for request, _ in known]
        answers: Iterator[Answer | None] = iter(())
        if requests:
            with self._turns[operator]:
                answers = iter(self._store.write_many(call.caller, requests, do, deadline=call.deadline))
        response = pb.PushEventsResponse()
        for each in group:
            if each.request:
                answer = next(answers) or Answer("MAILBOX_RESULT_EVENT_ID_REUSED")
            else:
                answer = Answer("MAILBOX_RESULT_INVALID_EVENT")
            response.acknowledgements.add(event_id=each.event_id, answer=self._answer_to(answer))
        return response

    def _answers(
        self, transaction: Transaction, operator: OrganisationNumber, events: Sequence[Event | str]
    ) -> list[Answer]:
        # A refusal is an answer like any other: kept with the event and given again.
        sound = [event for event in events if isinstance(event, Event)]
        outcomes = iter(apply_events(transaction, operator, sound, self._now()) if sound else ())
        return [Answer(event) if isinstance(event, str) else _answer_of(next(outcomes)) for event in events]

    def _reported(self, operator: OrganisationNumber, event: mailbox_event_pb2.MailboxEvent) -> Reported:
        try:
            request = translate.write_request(event, event.event_id, "event_id")
        except InvalidValue:
            return Reported(event.event_id, None, "MAILBOX_RESULT_INVALID_EVENT")
        operation = event.WhichOneof("operation")
        try:
            if operation is None:
                raise InvalidValue(Reason.INVALID_FIELD, "operation")
            evidence = _details_from(event.details, self._now(), counted=True)
        except InvalidValue:
            return Reported(event.event_id, request, "MAILBOX_RESULT_INVALID_EVENT")
        content = getattr(event, operation)
        return Reported(event.event_id, request, self._event(operator, operation, event, content, evidence))

    def _event(
        self,
        operator: OrganisationNumber,
        operation: str,
        event: Any,
        content: Any,
        evidence: Evidence | None,
    ) -> Event | str:
        """What it says, or the result where identifier, address or certificate are malformed."""
        try:
            identifier = self._parse_identifier(event.identifier)
            verb = _verb_from(operator, operation, content)
        except Refusal as refusal:
            return result_of(refusal)
        return Event(
            identifier=identifier,
            person_key=self._store.person_key(identifier),
            verb=verb,
            removes=operation == "delete",
            sequence=event.details.sequence,
            evidence=evidence,
        )

    def _answer_to(self, answer: Answer) -> pb.MailboxAnswer:
        number = answer.change_number
        return pb.MailboxAnswer(
            result=pb.MailboxResult.Value(answer.result),
            change_number=number,
            freshness_token=self._tokens.freshness(number) if number else "",
            duplicate=answer.duplicate,
        )


def groups(events: Iterable[Reported]) -> Iterator[list[Reported]]:
    """The events in order, in groups that can be applied at once: no id and no person twice."""
    group: list[Reported] = []
    seen: set[uuid.UUID | str] = set()
    for each in events:
        own: set[uuid.UUID | str] = {each.request.request_id} if each.request else set()
        if isinstance(each.event, Event):
            own.add(each.event.identifier)
        if len(group) == GROUP or own & seen:
            yield group
            group, seen = [], set()
        group.append(each)
        seen |= own
    if group:
        yield group


def result_of(refusal: Refusal) -> str:
    """The result that stands for the refusal; raises the refusal itself where none does."""
    reason = refusal.reason
    if reason is Reason.SYNTHETIC_IDENTIFIER:
        reason = Reason.INVALID_IDENTIFIER
    name = f"MAILBOX_RESULT_{reason.name}"
    if name not in pb.MailboxResult.keys():  # noqa: SIM118 (an enum wrapper, no dict)
        raise refusal
    return name


def _answer_of(outcome: int | Refusal) -> Answer:
    if isinstance(outcome, Refusal):
        return Answer(result_of(outcome))
    return Answer("MAILBOX_RESULT_OK", outcome)


def _verb_from(operator: OrganisationNumber, operation: str, content: Any) -> Callable[[Person], Person]:
    without = _WITHOUT.get(operation)
    if without:
        return lambda person: without(person, operator)
    with_mailbox = _WITH_MAILBOX[operation]
    mailbox = Mailbox(
        operator=operator,
        address=parse_mailbox_address(content.address),
        certificate=translate.certificate_from("certificate", content.certificate),
    )
    return lambda person: with_mailbox(person, mailbox)


def _details_from(
    details: mailbox_event_pb2.EventDetails, now: datetime, *, counted: bool
) -> Evidence | None:
    """The evidence, if there is any, once all is found well formed. Raises InvalidValue: INVALID_FIELD.

    counted: whether the sequence must be there.
    """
    least = 1 if counted else 0
    if details.sequence < least:
        raise InvalidValue(Reason.INVALID_FIELD, "details.sequence", f"{least} to {_MOST_SEQUENCE}")
    occurred = None
    if details.HasField("occurred_time"):
        occurred = _time_from("details.occurred_time", details.occurred_time)
    if not details.HasField("evidence"):
        return None
    given, path = details.evidence, "details.evidence"
    if given.level not in _LEVELS:
        raise InvalidValue(Reason.INVALID_FIELD, f"{path}.level", "a level of the contract")
    agreed = _time_from(f"{path}.agreed_time", given.agreed_time)
    if not (given.HasField("agreed_time") and _EPOCH <= agreed <= now + _CLOCKS_DIFFER):
        raise InvalidValue(Reason.INVALID_FIELD, f"{path}.agreed_time", "from 1970 to now")
    return Evidence(
        eid=translate.named_field(f"{path}.eid", parse_eid, given.eid),
        level=_LEVELS[given.level],
        agreed=agreed,
        agreed_text_sha256=_sha256_from(f"{path}.agreed_text_sha256", given.agreed_text_sha256),
        occurred=occurred,
    )


def _sha256_from(field: str, digest: bytes) -> bytes:
    try:
        return parse_sha256(digest)
    except InvalidValue as invalid:
        invalid.field = field
        raise


def _time_from(field: str, time: Timestamp) -> datetime:
    try:
        return time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(Reason.INVALID_FIELD, field, "a time of the years 1 to 9999") from None
