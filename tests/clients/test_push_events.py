"""Every event is acknowledged exactly once and in order, or a failure is raised."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import mailbox_event_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr_client import BrokenAnswer, RegisterError, connect
from krr_client.push_events import push_events

from tests.clients.scripted_pushes import GROUP, ScriptedPushes, loses_an_answer
from tests.clients.scripted_register import (
    Act,
    Wire,
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
from tests.mailbox_events import REMOVAL, content, event
from tests.people import DIGIPOST
from tests.server.watching import wait_until

CREDENTIAL = f"Development operator/{DIGIPOST}"
# More than there can be unacknowledged; the last message is not full.
COUNT = 4_250
AWAY = refuses(StatusCode.UNAVAILABLE)


@pytest.fixture
def scripted() -> Iterator[ScriptedPushes]:
    running = ScriptedPushes()
    running.start()
    yield running
    running.end()


@pytest.fixture
def channel(scripted: ScriptedPushes) -> Iterator[grpc.Channel]:
    with connect(f"127.0.0.1:{scripted.port}", CREDENTIAL) as opened:
        yield opened


def some_events(count: int = COUNT) -> list[mailbox_event_pb2.MailboxEvent]:
    return [event(sequence=number + 1, delete=REMOVAL) for number in range(count)]


def push(
    channel: grpc.Channel, events: Iterable[mailbox_event_pb2.MailboxEvent], **settings: Any
) -> Iterator[pb.EventAcknowledgement]:
    """Silence is long enough for a slow machine, and tests of it set another."""
    usual = {"silence": 10, "longest_delay": 0.05, "give_up_after": 30}
    return push_events(channel, events, **usual | settings)


def ids(found: Iterable[Any]) -> list[str]:
    return [each.event_id for each in found]


CUTS: dict[str, list[Act]] = {
    "nothing": [right],
    "unavailable before the first answer": [AWAY],
    "unavailable more often than gRPC retries": [AWAY] * 5,
    "unavailable in the middle": [after(3, AWAY)],
    "unavailable after each answer": [after(1, AWAY)] * 6,
    "unavailable after something was done": [after(3, loses_an_answer(AWAY))] * 3,
    "unavailable with details nobody can read": [after(2, refuses_unreadably)],
    "ends well with no answer at all": [ends],
    "ends well after something was done": [after(3, loses_an_answer(ends))],
    "cancelled by somebody on the way": [after(2, refuses(StatusCode.CANCELLED))],
    "deadline": [after(2, refuses(StatusCode.DEADLINE_EXCEEDED, "DEADLINE"))],
    "conflict": [after(2, refuses(StatusCode.ABORTED, "CONFLICT", retry_after=0.01))],
    "internal from the transport": [after(2, refuses(StatusCode.INTERNAL))],
    "unknown because the handler crashed": [after(2, crashes)],
    "bytes that are no message": [after(2, sends_garbage)],
    "too many streams": [refuses(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_after=0.01)],
    "server ending": [after(2, refuses(StatusCode.UNAVAILABLE, "SERVER_ENDING", retry_after=0.01))],
}


@pytest.mark.parametrize("cut", CUTS)
def test_every_event_is_acknowledged_once_in_order_and_done_once(
    scripted: ScriptedPushes, channel: grpc.Channel, cut: str
) -> None:
    scripted.acts.extend(CUTS[cut])
    events = some_events()

    acknowledged = list(push(channel, events))

    assert ids(acknowledged) == ids(events) == scripted.applied
    assert [each.answer.change_number for each in acknowledged] == list(range(1, COUNT + 1))
    duplicates = sum(each.answer.duplicate for each in acknowledged)
    assert duplicates >= GROUP * sum("done" in cut for _ in CUTS[cut])
    assert not scripted.acts


def test_silence_counts_as_a_cut(scripted: ScriptedPushes, channel: grpc.Channel) -> None:
    scripted.acts.extend([is_silent, after(2, is_silent)])
    events = some_events()

    assert ids(push(channel, events, silence=1)) == ids(events)


def test_a_connection_cut_anywhere_loses_and_doubles_nothing(scripted: ScriptedPushes) -> None:
    wire = Wire(scripted.port)
    wire.plug_in()
    events = some_events()
    with connect(f"127.0.0.1:{wire.port}", CREDENTIAL) as channel:
        acknowledged = []
        for each in push(channel, events):
            acknowledged.append(each)
            if len(acknowledged) % 700 == 0:
                wire.cut()
    wire.tear_out()

    assert ids(acknowledged) == ids(events) == scripted.applied
    # How often it was cut in time depends on how far ahead of the cuts the answers were.
    assert wire.connections > 1


def test_events_are_read_as_acknowledgements_come(scripted: ScriptedPushes, channel: grpc.Channel) -> None:
    read = 0

    def source() -> Iterator[mailbox_event_pb2.MailboxEvent]:
        nonlocal read
        for each in some_events(20_000):
            read += 1
            yield each

    acknowledgements = push(channel, source())
    for taken, _ in enumerate(acknowledgements, 1):
        assert read - taken <= 3_000
    assert read == 20_000


def test_messages_are_such_as_the_register_takes(scripted: ScriptedPushes, channel: grpc.Channel) -> None:
    large = content("synthetic.person#1", bytes(10_000))
    events = [event(sequence=number + 1, create=large) for number in range(1000)]

    assert ids(push(channel, events)) == ids(events)
    assert sum(count for count, _ in scripted.sizes) == 1000
    assert all(count <= 1000 and size <= 4 * 1024 * 1024 for count, size in scripted.sizes)


def test_no_events_need_no_call(scripted: ScriptedPushes, channel: grpc.Channel) -> None:
    assert not list(push(channel, []))
    assert scripted.streams == 0


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
        (StatusCode.INVALID_ARGUMENT, "BATCH_SIZE"),
        (StatusCode.INTERNAL, "INTERNAL"),
    ],
)
def test_what_would_end_the_same_way_again_is_raised_at_once(
    scripted: ScriptedPushes, channel: grpc.Channel, status: StatusCode, reason: str
) -> None:
    scripted.acts.append(after(2, refuses(status, reason)))
    acknowledged = []

    with pytest.raises(RegisterError) as refused:
        for each in push(channel, some_events()):
            acknowledged.append(each)

    assert refused.value.reason == reason
    assert len(acknowledged) == 2 * GROUP
    assert scripted.streams == 1


def test_who_is_away_for_too_long_is_given_up_and_headway_counts_anew(
    scripted: ScriptedPushes, channel: grpc.Channel
) -> None:
    scripted.acts.extend([after(1, AWAY)] * 5 + [AWAY] * 1000)
    began = time.monotonic()
    acknowledged = []

    with pytest.raises(RegisterError) as away:
        for each in push(channel, some_events(), give_up_after=1):
            acknowledged.append(each)

    assert away.value.status is StatusCode.UNAVAILABLE
    assert len(acknowledged) == 5 * GROUP
    assert time.monotonic() - began > 0.5


OTHERS: dict[str, Callable[[Any], Any]] = {
    "another event": lambda response: _with(response, lambda found: setattr(found[0], "event_id", "x")),
    "another order": lambda response: _with(response, lambda found: found.reverse()),
    "nothing": lambda _: pb.PushEventsResponse(),
    "one left out": lambda response: _with(response, lambda found: found.pop(0)),
}


def _with(response: Any, change: Callable[[Any], Any]) -> Any:
    found = list(response.acknowledgements)
    change(found)
    return pb.PushEventsResponse(acknowledgements=found)


@pytest.mark.parametrize("other", OTHERS)
def test_an_acknowledgement_of_something_else_is_a_broken_answer(
    scripted: ScriptedPushes, channel: grpc.Channel, other: str
) -> None:
    scripted.acts.append(after(1, alters(OTHERS[other])))

    with pytest.raises(BrokenAnswer):
        list(push(channel, some_events()))


def test_acknowledgements_of_more_than_was_sent_are_a_broken_answer(
    scripted: ScriptedPushes, channel: grpc.Channel
) -> None:
    scripted.acts.append(
        after(1, adds(pb.PushEventsResponse(acknowledgements=[pb.EventAcknowledgement()] * (COUNT + 1))))
    )
    with pytest.raises(BrokenAnswer):
        list(push(channel, some_events()))


def test_closing_early_ends_the_call(scripted: ScriptedPushes, channel: grpc.Channel) -> None:
    gone = threading.Event()

    def notes(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(gone.set)
        yield next(responses)
        gone.wait()

    scripted.acts.append(notes)
    acknowledgements: Any = push(channel, some_events())
    next(acknowledgements)

    acknowledgements.close()

    wait_until(gone.is_set, 10, "the call has ended")
