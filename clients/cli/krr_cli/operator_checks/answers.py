"""What each event is answered, and what the register holds afterwards; by calls and by stream alike."""

from concurrent.futures import ThreadPoolExecutor

from krr.v1 import mailbox_event_pb2 as event_pb

from krr_cli.operator_checks.events import CHOICE, REMOVAL, personal_certificate, with_id_of
from krr_cli.operator_checks.operator_side import OperatorSide, Person, answered
from krr_cli.operator_checks.surprise import expect
from krr_cli.operator_checks.ways import Way

_AT_ONCE = 6


def create(side: OperatorSide, send: Way, person: Person) -> None:
    """A create is answered OK, the mailbox stands, and nothing is chosen by it."""
    content = side.events.content()
    side.expect_answer(send, "create", side.event(person, create=content), "OK")
    side.expect_held(person, content)
    expect(f"may {person} choose", "MAY_CHOOSE", side.may_choose(person))


def same_event_again(side: OperatorSide, send: Way, person: Person) -> None:
    """The same event again, at once or later, gets the first answer marked duplicate, and does nothing."""
    first_content, second_content = side.events.content(), side.events.content()
    first, second = side.event(person, create=first_content), side.event(person, update=second_content)
    created = side.expect_answer(send, "create", first, "OK")
    again = side.expect_answer(send, "the same create again", first, "OK", duplicate=True)
    expect("change number of the same create again", created.change_number, again.change_number)
    side.expect_answer(send, "update", second, "OK")
    later = side.expect_answer(send, "the same create again after an update", first, "OK", duplicate=True)
    expect("change number of the same create again", created.change_number, later.change_number)
    side.expect_held(person, second_content)


def refused_event_again(side: OperatorSide, send: Way, person: Person) -> None:
    """A refused event sent again gets the same refusal, though it could succeed by now."""
    content = side.events.content()
    refused = side.event(person, choose=CHOICE)
    side.expect_answer(send, "choose without a mailbox", refused, "NO_MAILBOX")
    side.expect_answer(send, "create", side.event(person, create=content), "OK")
    side.expect_answer(send, "the same choose again", refused, "NO_MAILBOX", duplicate=True)
    side.expect_held(person, content)


def same_event_at_once(side: OperatorSide, send: Way, person: Person) -> None:
    """The same event many times at once takes effect once: one answer is the first, the rest duplicates."""
    content = side.events.content()
    event = side.event(person, create=content)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = [answer for [answer] in threads.map(send, [[event]] * _AT_ONCE)]
    expect(
        f"answers to {_AT_ONCE} at once",
        sorted(["OK", *["OK, duplicate"] * (_AT_ONCE - 1)]),
        sorted(map(answered, answers)),
    )
    expect("different change numbers among them", 1, len({answer.change_number for answer in answers}))
    side.expect_held(person, content)


def event_id_reused(side: OperatorSide, send: Way, person: Person, other: Person) -> None:
    """An event id with another body is refused, and nothing changes."""
    content = side.events.content()
    first = side.event(person, create=content)
    side.expect_answer(send, "create", first, "OK")
    for what, second in (
        ("address", side.event(person, create=side.events.content())),
        ("operation", side.event(person, delete=REMOVAL)),
        ("person", side.event(other, create=content)),
    ):
        side.expect_answer(
            send, f"the id of the create with another {what}", with_id_of(first, second), "EVENT_ID_REUSED"
        )
    side.expect_held(person, content)
    side.expect_held(other, None)


def create_with_other_data(side: OperatorSide, send: Way, person: Person) -> None:
    """A create where another mailbox of the operator stands is answered MAILBOX_EXISTS."""
    content = side.events.content()
    side.expect_answer(send, "create", side.event(person, create=content), "OK")
    for what, other in (
        ("address", side.events.content()),
        (
            "certificate",
            event_pb.MailboxContent(address=content.address, certificate=personal_certificate()),
        ),
    ):
        side.expect_answer(
            send, f"create with another {what}", side.event(person, create=other), "MAILBOX_EXISTS"
        )
    side.expect_answer(send, "create with the same data", side.event(person, create=content), "OK")
    side.expect_held(person, content)


def choose(side: OperatorSide, send: Way, person: Person) -> None:
    """A choose fills an empty choice; where one is chosen it is answered ALREADY_CHOSEN."""
    content = side.events.content()
    side.expect_answer(send, "choose without a mailbox", side.event(person, choose=CHOICE), "NO_MAILBOX")
    side.expect_answer(send, "create", side.event(person, create=content), "OK")
    side.expect_answer(send, "choose", side.event(person, choose=CHOICE), "OK")
    side.expect_held(person, content, chosen=True)
    expect(f"may {person} choose", "ALREADY_CHOSEN", side.may_choose(person))
    side.expect_answer(send, "choose where chosen", side.event(person, choose=CHOICE), "ALREADY_CHOSEN")


def create_and_choose(side: OperatorSide, send: Way, person: Person) -> None:
    """Create-and-choose does both in one step; where one is chosen it does neither."""
    content = side.events.content()
    side.expect_answer(send, "create-and-choose", side.event(person, create_and_choose=content), "OK")
    side.expect_held(person, content, chosen=True)
    other = side.event(person, create_and_choose=side.events.content())
    [answer] = send([other])
    # The contract does not say which of the two comes first.
    expect(
        "create-and-choose with other data where chosen",
        "ALREADY_CHOSEN or MAILBOX_EXISTS",
        "ALREADY_CHOSEN or MAILBOX_EXISTS"
        if answered(answer) in ("ALREADY_CHOSEN", "MAILBOX_EXISTS")
        else answered(answer),
    )
    side.expect_held(person, content, chosen=True)


def update(side: OperatorSide, send: Way, person: Person) -> None:
    """An update gives the mailbox another address and certificate and leaves the choice as it is."""
    second, third = side.events.content(certificate=personal_certificate()), side.events.content()
    side.expect_answer(send, "update without a mailbox", side.event(person, update=second), "NO_MAILBOX")
    side.expect_held(person, None)
    side.expect_answer(
        send, "create-and-choose", side.event(person, create_and_choose=side.events.content()), "OK"
    )
    for content in (second, third):
        side.expect_answer(send, "update", side.event(person, update=content), "OK")
        side.expect_held(person, content, chosen=True)


def delete(side: OperatorSide, send: Way, person: Person) -> None:
    """A delete removes mailbox and choice; again it is answered NO_MAILBOX; a new create is welcome."""
    side.expect_answer(
        send, "create-and-choose", side.event(person, create_and_choose=side.events.content()), "OK"
    )
    side.expect_answer(send, "delete", side.event(person, delete=REMOVAL), "OK")
    side.expect_held(person, None)
    expect(f"may {person} choose", "MAY_CHOOSE", side.may_choose(person))
    side.expect_answer(send, "another delete", side.event(person, delete=REMOVAL), "NO_MAILBOX")
    content = side.events.content()
    side.expect_answer(send, "create", side.event(person, create=content), "OK")
    side.expect_held(person, content)


def update_after_delete(side: OperatorSide, send: Way, person: Person) -> None:
    """An update after a delete is answered NO_MAILBOX and brings nothing back."""
    side.expect_answer(send, "create", side.event(person, create=side.events.content()), "OK")
    side.expect_answer(send, "delete", side.event(person, delete=REMOVAL), "OK")
    side.expect_answer(send, "update", side.event(person, update=side.events.content()), "NO_MAILBOX")
    side.expect_held(person, None)


def malformed(side: OperatorSide, send: Way, person: Person) -> None:
    """Malformed events are answered by what is wrong with them, and change nothing."""
    content = side.events.content()
    no_identifier = side.event(person, create=content)
    no_identifier.identifier = f"{person.identifier[:-1]}{(int(person.identifier[-1]) + 1) % 10}"
    no_uuid = side.event(person, create=content)
    no_uuid.event_id = "not a UUID"
    too_short = event_pb.MailboxContent(address="short")
    no_certificate = event_pb.MailboxContent(address=content.address, certificate=b"no certificate")
    for what, event, result in (
        ("a wrong control digit", no_identifier, "INVALID_IDENTIFIER"),
        ("an address of 5 characters", side.event(person, create=too_short), "INVALID_MAILBOX_ADDRESS"),
        ("a certificate that is none", side.event(person, create=no_certificate), "INVALID_CERTIFICATE"),
        ("an event id that is no UUID", no_uuid, "INVALID_EVENT"),
    ):
        side.expect_answer(send, f"create with {what}", event, result)
    side.expect_held(person, None)
