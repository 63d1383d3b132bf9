"""A copy that follows the feed is right in the end, whatever happens to the stream."""

import threading
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import register_service_pb2 as pb
from krr_client import BrokenAnswer, ChangesPage, RegisterError, connect, follow_changes, follow_mailboxes

from tests.clients.feed_copy import (
    ALL,
    DELAY,
    ENOUGH_SECONDS,
    LAST,
    SILENCE,
    A,
    B,
    C,
    Copy,
    E,
    following,
    keep,
    pages,
    person,
    restored_pages,
    truth,
)
from tests.clients.scripted_register import (
    HEARTBEAT_SECONDS,
    Act,
    ScriptedRegister,
    adds,
    after,
    alters,
    crashes,
    ends,
    is_silent,
    refuses,
    refuses_unreadably,
    right,
    sends_garbage,
)


def assert_no_page_was_lost_or_came_twice(handed_over: list[ChangesPage], scripted: ScriptedRegister) -> None:
    """Page after page, each time from the start where the register was restored, and only then."""
    epochs: dict[int, list[int]] = {}
    for page in handed_over:
        epoch, position = map(int, page.cursor.split("-"))
        assert page.restarted == (epoch not in epochs)
        epochs.setdefault(epoch, []).extend([position] if position else [])
    for positions in epochs.values():
        assert positions == list(range(1, len(positions) + 1))
    assert len(epochs[scripted.epoch]) == len(scripted.pages)


def restores(scripted: ScriptedRegister) -> Act:
    """The register is restored from a backup; the stream, if any, learns of it."""

    def act(responses: Iterator[object], context: grpc.ServicerContext) -> Iterator[object]:
        scripted.restore(restored_pages())
        return refuses(StatusCode.FAILED_PRECONDITION, "FEED_RESET")(responses, context)

    return act


def without_cursor(response: pb.WatchChangesResponse) -> pb.WatchChangesResponse:
    response.cursor = ""
    return response


def many_without_cursor(scripted: ScriptedRegister) -> list[Act]:
    """More of them than may follow on one another, each after a good page."""
    for number in (9, 10, 11):
        scripted.commit(person(E, number))
    return [after(1, alters(without_cursor))] * 6


def with_duplicates(response: pb.WatchChangesResponse) -> pb.WatchChangesResponse:
    """Each person twice more, older, before and after."""
    now = list(response.persons)
    older = [person(each.identifier, each.change_number - 1) for each in now]
    del response.persons[:]
    response.persons.extend([*older, *now, *older])
    return response


def with_older_persons(response: pb.WatchChangesResponse) -> pb.WatchChangesResponse:
    response.persons.extend([person(A, 1), person(C, 2)])
    return response


AWAY = refuses(StatusCode.UNAVAILABLE)
RESET = refuses(StatusCode.FAILED_PRECONDITION, "FEED_RESET")

# What goes wrong in the calls, one after the other; then all is right.
CUTS: dict[str, Callable[[ScriptedRegister], list[Act]]] = {
    "nothing": lambda _: [right],
    "unavailable before the first page": lambda _: [AWAY],
    "unavailable more often than gRPC retries": lambda _: [AWAY] * 9,
    "unavailable in the middle": lambda _: [after(2, AWAY)],
    "unavailable after each page": lambda _: [after(1, AWAY)] * ALL,
    "unavailable after the last page": lambda _: [after(ALL, AWAY)],
    "unavailable after a heartbeat": lambda _: [after(ALL + 2, AWAY)],
    "unavailable with details nobody can read": lambda _: [after(1, refuses_unreadably)],
    "ends well with no page at all": lambda _: [ends],
    "ends well in the middle": lambda _: [after(2, ends)],
    "ends well after each page": lambda _: [after(1, ends)] * ALL,
    "ends well after the last page": lambda _: [after(ALL, ends)],
    "cancelled by somebody on the way": lambda _: [refuses(StatusCode.CANCELLED)],
    "cancelled in the middle": lambda _: [after(2, refuses(StatusCode.CANCELLED))],
    "deadline of the register's": lambda _: [after(1, refuses(StatusCode.DEADLINE_EXCEEDED, "DEADLINE"))],
    "internal from the transport": lambda _: [after(1, refuses(StatusCode.INTERNAL))],
    "internal in a reason that is not the register's": lambda _: [
        refuses(StatusCode.INTERNAL, "SOMETHING", domain="a-proxy.example.com")
    ],
    "unknown because the handler crashed": lambda _: [crashes, after(3, crashes)],
    "bytes that are no message": lambda _: [after(1, sends_garbage)],
    "exhausted, try again": lambda _: [refuses(StatusCode.RESOURCE_EXHAUSTED, "", retry_after=0.01)],
    "too many streams": lambda _: [refuses(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")] * 3,
    "server ending": lambda _: [after(2, refuses(StatusCode.UNAVAILABLE, "SERVER_ENDING", retry_after=0.1))],
    "database unavailable": lambda _: [
        refuses(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", retry_after=0.01)
    ],
    "conflict, try again": lambda _: [refuses(StatusCode.ABORTED, "CONFLICT", retry_after=0.01)],
    "silence from the start": lambda _: [is_silent],
    "silence in the middle": lambda _: [after(2, is_silent)],
    "silence after the last page": lambda _: [after(ALL, is_silent)],
    "first page without a cursor": lambda _: [alters(without_cursor)],
    "pages without a cursor, twice": lambda _: [after(1, alters(without_cursor))] * 2,
    "empty pages whose cursor moves": lambda _: [
        after(1, adds(*(pb.WatchChangesResponse(cursor="1-1") for _ in range(20))))
    ],
    "pages without a cursor, between good ones": many_without_cursor,
    "an empty first page": lambda _: [adds(pb.WatchChangesResponse(cursor="1-0"))],
    "duplicates in a page": lambda _: [after(1, alters(with_duplicates))],
    "duplicates in the first page": lambda _: [alters(with_duplicates)],
    "a person older than already seen": lambda _: [after(2, alters(with_older_persons))],
    "reset before anything": lambda _: [RESET],
    "reset in the middle": lambda scripted: [after(2, restores(scripted))],
    "reset after the last page": lambda scripted: [after(ALL, restores(scripted))],
    "reset twice in a row": lambda scripted: [after(2, restores(scripted)), restores(scripted)],
    "reset during a restart": lambda scripted: [
        after(ALL, restores(scripted)),
        after(1, restores(scripted)),
    ],
    "cut during a restart": lambda scripted: [after(ALL, restores(scripted)), after(1, AWAY)],
    "everything": lambda scripted: [
        AWAY,
        after(1, ends),
        after(1, crashes),
        after(1, alters(without_cursor)),
        is_silent,
        after(1, restores(scripted)),
        after(1, sends_garbage),
        after(1, refuses(StatusCode.CANCELLED)),
    ],
}


@pytest.mark.parametrize("cut", CUTS)
def test_the_copy_is_right_in_the_end(scripted: ScriptedRegister, channel: grpc.Channel, cut: str) -> None:
    scripted.acts.extend(CUTS[cut](scripted))
    copy = Copy()

    handed_over = keep(copy, scripted, channel)

    assert copy.persons == truth(scripted)
    assert not scripted.acts
    assert_no_page_was_lost_or_came_twice(handed_over, scripted)
    for page in handed_over:
        assert page.persons or page.caught_up or page.restarted
        identifiers = [each.identifier for each in page.persons]
        assert len(identifiers) == len(set(identifiers))


@pytest.mark.parametrize("cut", CUTS)
def test_a_reader_that_is_stopped_after_each_page_goes_on_where_it_was(
    scripted: ScriptedRegister, channel: grpc.Channel, cut: str
) -> None:
    scripted.acts.extend(CUTS[cut](scripted))
    copy = Copy()

    give_up = time.monotonic() + ENOUGH_SECONDS
    while LAST not in copy.persons and time.monotonic() < give_up:
        with following(channel, copy.cursor) as feed:
            copy.save(next(feed))
        if copy.cursor == f"{scripted.epoch}-{len(scripted.pages)}" and not scripted.acts:
            scripted.commit(person(LAST, 100))

    assert copy.persons == truth(scripted)


REFUSALS = {
    "garbage as cursor": (StatusCode.INVALID_ARGUMENT, "INVALID_TOKEN"),
    "cursor of a later register": (StatusCode.OUT_OF_RANGE, "AHEAD_OF_REGISTER"),
    "no credential": (StatusCode.UNAUTHENTICATED, "CREDENTIAL_MISSING"),
    "credential refused": (StatusCode.UNAUTHENTICATED, "CREDENTIAL_REFUSED"),
    "no right to the feed": (StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
    "page size refused": (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    "a fault in the register": (StatusCode.INTERNAL, "INTERNAL"),
    "an older register": (StatusCode.UNIMPLEMENTED, ""),
    "exhausted for good": (StatusCode.RESOURCE_EXHAUSTED, ""),
    "denied by a proxy": (StatusCode.PERMISSION_DENIED, ""),
    "data lost": (StatusCode.DATA_LOSS, ""),
}


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_raised_and_never_taken_for_the_end(
    scripted: ScriptedRegister, channel: grpc.Channel, refusal: str, count: int
) -> None:
    status, reason = REFUSALS[refusal]
    scripted.acts.append(after(count, refuses(status, reason)))

    with following(channel) as feed:
        before = [next(feed) for _ in range(count)]
        for _ in range(2):
            with pytest.raises(RegisterError) as raised:
                next(feed)
            assert (raised.value.status, raised.value.reason) == (status, reason)

    assert [page.cursor for page in before] == ["1-1", "1-2"][:count]
    assert len(scripted.calls) == 1


def test_a_register_that_never_gives_a_cursor_is_given_up(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([alters(without_cursor)] * 9)

    with following(channel) as feed, pytest.raises(BrokenAnswer):
        next(feed)

    assert len(scripted.calls) == 5


def test_a_register_that_resets_a_reader_without_a_cursor_is_given_up(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([RESET] * 9)

    with following(channel, "1-2") as feed, pytest.raises(RegisterError) as raised:
        next(feed)

    assert raised.value.reason == "FEED_RESET"
    assert [call.after_cursor for call in scripted.calls] == ["1-2", "", "", "", "", ""]


def test_a_saved_cursor_brings_only_what_came_after_it(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    with following(channel, "1-3") as feed:
        page = next(feed)

    assert page == ChangesPage(tuple(pages()[3]), "1-4", caught_up=True, restarted=False)


def test_a_reader_that_missed_nothing_is_told_once_that_it_is_caught_up(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(after(10, AWAY))

    with following(channel, "1-4") as feed:
        first = next(feed)
        threading.Timer(20 * HEARTBEAT_SECONDS, scripted.commit, [person(LAST, 100)]).start()
        second = next(feed)

    assert first == ChangesPage((), "1-4", caught_up=True, restarted=False)
    assert second == ChangesPage((person(LAST, 100),), "1-5", caught_up=True, restarted=False)


def test_an_empty_register_is_restarted_and_caught_up_at_once() -> None:
    empty = ScriptedRegister()
    empty.start()
    with connect(f"127.0.0.1:{empty.port}", "Development x") as channel, following(channel) as feed:
        assert next(feed) == ChangesPage((), "1-0", caught_up=True, restarted=True)
    empty.end()


def test_a_stream_that_reaches_its_deadline_goes_on(
    scripted: ScriptedRegister, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("krr_client.follow._LONGEST_STREAM", 0.2)
    scripted.acts.extend([right, after(ALL, is_silent)])
    copy = Copy()

    with follow_changes(channel, silence=60, longest_delay=DELAY) as feed:
        for page in feed:
            copy.save(page)
            if len(copy.cursors) == ALL:
                threading.Timer(1, scripted.commit, [person(LAST, 100)]).start()
            if LAST in copy.persons:
                break

    assert copy.persons == truth(scripted)
    assert len(scripted.calls) > 2
    assert max(scripted.seconds_left) < 1


def test_the_wait_between_calls_grows_and_begins_short_again_after_a_page(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    cancelled = refuses(StatusCode.CANCELLED)
    scripted.acts.extend([*[cancelled] * 4, after(1, cancelled)])

    with follow_changes(channel) as feed:
        begin = time.monotonic()
        next(feed)
        # At least half of 0.2, 0.4, 0.8 and 1.6 seconds.
        assert time.monotonic() - begin > 1.5
        begin = time.monotonic()
        next(feed)
        # The next would be 3.2 seconds, and at least half of it.
        assert time.monotonic() - begin < 1.5


def test_the_register_says_how_long_to_wait_before_the_next_call(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(refuses(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_after=0.7))
    begin = time.monotonic()

    with following(channel) as feed:
        next(feed)

    assert time.monotonic() - begin > 0.7


def test_an_operator_follows_its_mailboxes_the_same_way(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([after(2, AWAY), after(1, ends), after(1, restores(scripted))])
    held: dict[str, int] = {}
    restarts = 0

    with follow_mailboxes(channel, silence=SILENCE, longest_delay=DELAY) as feed:
        for page in feed:
            if page.restarted:
                restarts += 1
                held = {}
            held |= {mailbox.identifier: mailbox.change_number for mailbox in page.mailboxes}
            if page.caught_up and restarts == 2:
                break

    assert held == {A: 1, B: 2, C: 3}
    assert restarts == 2
