"""What a sequence does; by calls and by stream alike."""

from datetime import UTC, datetime, timedelta

from krr.v1 import mailbox_event_pb2 as event_pb

from krr_cli.operator_checks.events import CHOICE, REMOVAL
from krr_cli.operator_checks.operator_side import OperatorSide, Person
from krr_cli.operator_checks.ways import Way, by_calls, by_stream


def outdated(side: OperatorSide, send: Way, person: Person) -> None:
    """A sequence equal to the last applied one, or lower, is answered OUTDATED and not applied."""
    lower, last = side.events.sequences(2)
    content = side.events.content()
    side.expect_answer(send, "create", side.event(person, create=content, sequence=last), "OK")
    for what, sequence in (("the same", last), ("a lower", lower)):
        late = side.event(person, update=side.events.content(), sequence=sequence)
        side.expect_answer(send, f"update with {what} sequence", late, "OUTDATED")
        side.expect_answer(send, "the same update again", late, "OUTDATED", duplicate=True)
    side.expect_answer(
        send, "delete with a lower sequence", side.event(person, delete=REMOVAL, sequence=lower), "OUTDATED"
    )
    side.expect_held(person, content)


def gaps(side: OperatorSide, send: Way, person: Person) -> None:
    """Sequences may have gaps."""
    first, *_, last = side.events.sequences(1000)
    content = side.events.content()
    side.expect_answer(send, "create", side.event(person, create=side.events.content(), sequence=first), "OK")
    side.expect_answer(
        send, "update with a sequence 999 above", side.event(person, update=content, sequence=last), "OK"
    )
    side.expect_held(person, content)


def of_each_person(side: OperatorSide, send: Way, person: Person, other: Person) -> None:
    """Each person has a sequence of its own: what one had makes nothing of another outdated."""
    lower, higher = side.events.sequences(2)
    content = side.events.content()
    side.expect_answer(
        send, "create", side.event(person, create=side.events.content(), sequence=higher), "OK"
    )
    side.expect_answer(
        send,
        "create for another person with a lower sequence",
        side.event(other, create=content, sequence=lower),
        "OK",
    )
    side.expect_held(other, content)


def refused_does_not_count(side: OperatorSide, send: Way, person: Person) -> None:
    """A refused event does not count as applied: a lower sequence after it is still taken."""
    first, between, refused = side.events.sequences(3)
    content = side.events.content()
    side.expect_answer(send, "create", side.event(person, create=side.events.content(), sequence=first), "OK")
    side.expect_answer(
        send,
        "create with other data",
        side.event(person, create=side.events.content(), sequence=refused),
        "MAILBOX_EXISTS",
    )
    side.expect_answer(
        send,
        "update with a sequence below that of the refused event",
        side.event(person, update=content, sequence=between),
        "OK",
    )
    side.expect_held(person, content)


def late_create(side: OperatorSide, send: Way, person: Person) -> None:
    """A delete that found nothing counts: a create that comes late is OUTDATED, and nothing stands."""
    created, deleted, later = side.events.sequences(3)
    side.expect_answer(
        send,
        "delete without a mailbox",
        side.event(person, delete=REMOVAL, sequence=deleted),
        "NO_MAILBOX",
    )
    for operation in ("create", "create_and_choose"):
        late = side.event(person, **{operation: side.events.content()}, sequence=created)
        side.expect_answer(send, f"a late {operation.replace('_', '-')}", late, "OUTDATED")
    side.expect_held(person, None)
    content = side.events.content()
    side.expect_answer(
        send,
        "create with a sequence above that of the delete",
        side.event(person, create=content, sequence=later),
        "OK",
    )
    side.expect_held(person, content)


def late_update(side: OperatorSide, send: Way, person: Person) -> None:
    """What was deleted is brought back neither by a late update nor by a late create."""
    created, between, deleted = side.events.sequences(3)
    side.expect_answer(
        send, "create", side.event(person, create=side.events.content(), sequence=created), "OK"
    )
    side.expect_answer(send, "delete", side.event(person, delete=REMOVAL, sequence=deleted), "OK")
    for operation in ("update", "create"):
        late = side.event(person, **{operation: side.events.content()}, sequence=between)
        side.expect_answer(send, f"a late {operation}", late, "OUTDATED")
    side.expect_held(person, None)


def time_decides_nothing(side: OperatorSide, send: Way, person: Person) -> None:
    """The time when an event happened is information only: by the sequence a day earlier comes later."""
    create = side.event(person, create=side.events.content())
    content = side.events.content()
    update = side.event(person, update=content)
    update.details.occurred_time.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    side.expect_answer(send, "create", create, "OK")
    side.expect_answer(send, "update that happened a day before", update, "OK")
    side.expect_held(person, content)


def evidence(side: OperatorSide, send: Way, person: Person) -> None:
    """Evidence of what the person agreed to is taken; evidence that does not say all is not."""
    content = side.events.content()
    agreed = event_pb.Evidence(
        eid="BankID", level=event_pb.ASSURANCE_LEVEL_HIGH, agreed_text_sha256=bytes(range(32))
    )
    agreed.agreed_time.FromDatetime(datetime.now(UTC) - timedelta(minutes=1))
    create = side.event(person, create=content)
    create.details.evidence.CopyFrom(agreed)
    side.expect_answer(send, "create with evidence", create, "OK")
    for what, flaw in (
        ("without a level", {"level": event_pb.ASSURANCE_LEVEL_UNSPECIFIED}),
        ("without an electronic ID", {"eid": ""}),
        ("with a hash of 31 bytes", {"agreed_text_sha256": bytes(31)}),
    ):
        choose = side.event(person, choose=CHOICE)
        choose.details.evidence.CopyFrom(agreed)
        for field, value in flaw.items():
            setattr(choose.details.evidence, field, value)
        side.expect_answer(send, f"choose with evidence {what}", choose, "INVALID_EVENT")
    side.expect_held(person, content)


def of_calls_and_streams(side: OperatorSide, persons: list[Person]) -> None:
    """Calls and streams share the sequence: what one applied makes the other's outdated."""
    (person, other), stub = persons, side.stub
    ways: list[tuple[str, Way]] = [
        ("a call", lambda events: by_calls(stub, events)),
        ("a stream", lambda events: by_stream(stub, events)),
    ]
    for of, (first_name, first), (second_name, second) in (
        (person, ways[0], ways[1]),
        (other, ways[1], ways[0]),
    ):
        lower, higher = side.events.sequences(2)
        content = side.events.content()
        side.expect_answer(
            first, f"create by {first_name}", side.event(of, create=content, sequence=higher), "OK"
        )
        side.expect_answer(
            second,
            f"update by {second_name} with a lower sequence",
            side.event(of, update=side.events.content(), sequence=lower),
            "OUTDATED",
        )
        side.expect_held(of, content)
