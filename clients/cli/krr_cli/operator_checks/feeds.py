"""What the operator's own feed shows, and calls whose answer is lost."""

import time
from collections.abc import Sequence
from typing import Any

from krr.v1 import mailbox_operator_service_pb2 as pb
from krr_client.cuts import next_response

from krr_cli.operator_checks.events import CHOICE, REMOVAL, personal_certificate
from krr_cli.operator_checks.holdings import described, in_rising_order
from krr_cli.operator_checks.operator_side import OperatorSide, Person, answered
from krr_cli.operator_checks.surprise import Surprise, expect
from krr_cli.operator_checks.ways import SILENCE_SECONDS, by_call, unary

_WATCH_SECONDS = 60.0
_WAIT_SECONDS = 20


def listed(side: OperatorSide, persons: list[Person]) -> None:
    """ListMailboxes from a cursor shows exactly what was pushed since, each person once, in order."""
    side.holdings.read_on()
    expected = _pushed(side, persons)
    _expect_shown(side, expected, side.holdings.read_on(page_size=2))
    expect("mailboxes after the last cursor", 0, len(side.holdings.read_on()))


def watched(side: OperatorSide, persons: list[Person]) -> None:
    """WatchMailboxes from a cursor shows what is pushed as it comes about, in order, and nothing else."""
    side.holdings.read_on()
    request = pb.WatchMailboxesRequest(after_cursor=side.holdings.cursor, page_size=3)
    call = side.stub.WatchMailboxes(request, timeout=_WATCH_SECONDS)
    came: list[pb.HeldMailbox] = []
    try:
        # The first change shows that the stream is under way before the others are made.
        expected = _pushed(side, persons[:1])
        _read_until(call, came, expected)
        expected += _pushed(side, persons[1:])
        _read_until(call, came, expected)
    finally:
        call.cancel()
    in_order = [held.change_number for held in came]
    expect("whether change numbers rise from page to page", True, in_order == sorted(set(in_order)))
    latest = {held.identifier: held for held in came}
    _expect_shown(side, expected, sorted(latest.values(), key=lambda held: held.change_number))


def waited_for(side: OperatorSide, persons: list[Person]) -> None:
    """ListMailboxes that waits is answered once there is a change, with it."""
    [person] = persons
    side.holdings.read_on()
    request = pb.ListMailboxesRequest(after_cursor=side.holdings.cursor)
    request.wait.FromSeconds(_WAIT_SECONDS)
    call = side.stub.ListMailboxes.future(request, timeout=SILENCE_SECONDS)
    number = by_call(side.stub, side.event(person, create=side.events.content())).change_number
    numbers = [held.change_number for held in call.result().mailboxes]
    expect("whether the page that was waited for holds the change alone", True, numbers == [number])


def lost_answer(side: OperatorSide, persons: list[Person]) -> None:
    """A call that was given up before its answer came is sent again, and has its effect once."""
    [person] = persons
    contents = [side.events.content() for _ in range(10)]
    events = [side.event(person, create=contents[0])]
    events += [side.event(person, update=content) for content in contents[1:]]
    for place, (event, content) in enumerate(zip(events, contents, strict=True)):
        call, request = unary(side.stub, event)
        given_up = call.future(request)
        time.sleep(0.002 * place)
        given_up.cancel()
        first, second = by_call(side.stub, event), by_call(side.stub, event)
        expect("the event again", "OK, duplicate", answered(second))
        expect("change number of the event again", first.change_number, second.change_number)
        side.expect_held(person, content)
        shown = side.holdings.of(person.identifier).change_number
        expect("change number in the feed", first.change_number, shown)


def of_another_operator(side: OperatorSide, persons: list[Person]) -> None:
    """What another operator does is in its own feed only, out of reach, and its choice is not taken."""
    [person] = persons
    if side.other is None:
        raise ValueError("there is no other operator")
    content = side.events.content()
    side.holdings.read_on()
    theirs = by_call(side.other, side.event(person, create_and_choose=side.events.content()))
    expect("create-and-choose by the other operator", "OK", answered(theirs))
    expect("mailboxes that came into the operator's own feed", 0, len(side.holdings.read_on()))
    for what, event, result in (
        ("update", side.event(person, update=side.events.content()), "NO_MAILBOX"),
        ("delete", side.event(person, delete=REMOVAL), "NO_MAILBOX"),
        ("create", side.event(person, create=content), "OK"),
        ("choose", side.event(person, choose=CHOICE), "ALREADY_CHOSEN"),
    ):
        expect(what, result, answered(by_call(side.stub, event)))
    side.expect_held(person, content)
    again = by_call(side.other, side.event(person, choose=CHOICE))
    expect("choose by the other operator, whose mailbox is chosen", "ALREADY_CHOSEN", answered(again))


def _pushed(side: OperatorSide, persons: Sequence[Person]) -> list[pb.HeldMailbox]:
    """Push two events for each person, the second ones backwards; returns what the feed must show of
    them, in order.
    """
    contents = [side.events.content(certificate=personal_certificate()) for _ in persons]
    for person, content in zip(persons, contents, strict=True):
        by_call(side.stub, side.event(person, create=content))
    expected = []
    for place in reversed(range(len(persons))):
        person, content = persons[place], contents[place]
        operation = ("update", "choose", "delete")[place % 3]
        if operation == "update":
            content = side.events.content()
        said: dict[str, Any] = {
            operation: {"update": content, "choose": CHOICE, "delete": REMOVAL}[operation]
        }
        answer = by_call(side.stub, side.event(person, **said))
        expect(operation, "OK", answered(answer))
        held = pb.HeldMailbox(identifier=person.identifier, change_number=answer.change_number)
        if operation != "delete":
            held.address, held.certificate = content.address, content.certificate
            held.receives_public_mail = operation == "choose"
        expected.append(held)
    return expected


def _read_until(call: object, came: list[pb.HeldMailbox], expected: Sequence[pb.HeldMailbox]) -> None:
    """Read pages until they showed the last change that is expected. Raises RegisterError and Surprise."""
    last = max(held.change_number for held in expected)
    while not came or came[-1].change_number < last:
        page = next_response(call, SILENCE_SECONDS)
        if not page.cursor:
            raise Surprise("a cursor on every page", "a page without")
        in_rising_order(page.mailboxes)
        came.extend(page.mailboxes)


def _expect_shown(
    side: OperatorSide, expected: Sequence[pb.HeldMailbox], came: Sequence[pb.HeldMailbox]
) -> None:
    strangers = side.holdings.strangers(came)
    if strangers:
        raise Surprise(
            "only mailboxes that were pushed",
            f"{strangers} of others: another operator's, or somebody else uses this credential meanwhile",
        )
    expect("persons shown", len(expected), len(came))
    for one, other in zip(expected, came, strict=True):
        number = side.holdings.numbers[one.identifier]
        expect(
            "whose change comes next", f"person {number}", f"person {side.holdings.numbers[other.identifier]}"
        )
        expect(f"shown of person {number}", described(one, side.events), described(other, side.events))
        expect(f"change number shown of person {number}", one.change_number, other.change_number)
