"""Every identifier gets its own answer exactly once, or a failure is raised."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import register_service_pb2 as pb
from krr_client import BrokenAnswer, RegisterError, connect, look_up_persons

from tests.clients.conftest import CREDENTIAL
from tests.clients.scripted_register import (
    Act,
    ScriptedRegister,
    Wire,
    adds,
    after,
    alters,
    crashes,
    ends,
    entry,
    is_silent,
    refuses,
    refuses_unreadably,
    right,
    sends_garbage,
)

# More than there can be unanswered; the last request is not full.
COUNT = 6_500
AWAY = refuses(StatusCode.UNAVAILABLE)


def identifiers(count: int = COUNT) -> list[str]:
    return [f"{number:011}" for number in range(count)]


def look_up(channel: grpc.Channel, asked: Iterable[str], **settings: Any) -> Iterator[pb.LookUpEntry]:
    return look_up_persons(
        channel,
        asked,
        **{"purpose": pb.PURPOSE_NOTICE, "silence": 0.3, "longest_delay": 0.05, "give_up_after": 20}
        | settings,
    )


CUTS: dict[str, list[Act]] = {
    "nothing": [right],
    "unavailable before the first answer": [AWAY],
    "unavailable more often than gRPC retries": [AWAY] * 5,
    "unavailable in the middle": [after(3, AWAY)],
    "unavailable after each answer": [after(1, AWAY)] * 6,
    "unavailable after the last answer": [after(7, AWAY)],
    "unavailable with details nobody can read": [after(2, refuses_unreadably)],
    "ends well with no answer at all": [ends],
    "ends well in the middle": [after(3, ends)],
    "ends well after each answer": [after(1, ends)] * 6,
    "cancelled by somebody on the way": [after(2, refuses(StatusCode.CANCELLED))],
    "deadline": [after(2, refuses(StatusCode.DEADLINE_EXCEEDED, "DEADLINE"))],
    "internal from the transport": [after(2, refuses(StatusCode.INTERNAL))],
    "unknown because the handler crashed": [after(2, crashes)],
    "bytes that are no message": [after(2, sends_garbage)],
    "too many streams": [refuses(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_after=0.01)],
    "server ending": [after(2, refuses(StatusCode.UNAVAILABLE, "SERVER_ENDING", retry_after=0.01))],
    "silence from the start": [is_silent],
    "silence in the middle": [after(2, is_silent)],
    "everything": [AWAY, after(1, ends), after(1, is_silent), after(1, crashes), after(1, sends_garbage)],
}


@pytest.mark.parametrize("cut", CUTS)
def test_everybody_is_answered_once_and_in_order(
    scripted: ScriptedRegister, channel: grpc.Channel, cut: str
) -> None:
    scripted.acts.extend(CUTS[cut])
    asked = identifiers()
    progress: list[int] = []

    entries = list(look_up(channel, asked, on_progress=progress.append))

    assert entries == list(map(entry, asked))
    assert progress == [1000, 2000, 3000, 4000, 5000, 6000, 6500]
    assert not scripted.acts


REFUSALS = {
    "malformed token": (StatusCode.INVALID_ARGUMENT, "INVALID_TOKEN"),
    "register behind the token": (StatusCode.OUT_OF_RANGE, "AHEAD_OF_REGISTER"),
    "token of another epoch": (StatusCode.FAILED_PRECONDITION, "FEED_RESET"),
    "no purpose": (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    "credential refused": (StatusCode.UNAUTHENTICATED, "CREDENTIAL_REFUSED"),
    "no public body": (StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
    "a fault in the register": (StatusCode.INTERNAL, "INTERNAL"),
    "an older register": (StatusCode.UNIMPLEMENTED, ""),
    "exhausted for good": (StatusCode.RESOURCE_EXHAUSTED, ""),
}


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_raised_at_once_after_the_answers_before_it(
    scripted: ScriptedRegister, channel: grpc.Channel, refusal: str, count: int
) -> None:
    status, reason = REFUSALS[refusal]
    scripted.acts.append(after(count, refuses(status, reason)))
    asked = identifiers()
    answered = []

    with pytest.raises(RegisterError) as raised:
        for each in look_up(channel, asked):
            answered.append(each.requested_identifier)

    assert (raised.value.status, raised.value.reason) == (status, reason)
    assert answered == asked[: count * 1000]
    assert len(scripted.calls) == 1


def _without_last(response: pb.LookUpPersonsStreamResponse) -> pb.LookUpPersonsStreamResponse:
    del response.entries[-1]
    return response


def _with_one_more(response: pb.LookUpPersonsStreamResponse) -> pb.LookUpPersonsStreamResponse:
    response.entries.append(entry("99999999999"))
    return response


def _with_two_changed_places(response: pb.LookUpPersonsStreamResponse) -> pb.LookUpPersonsStreamResponse:
    entries = list(response.entries)
    entries[3], entries[4] = entries[4], entries[3]
    return pb.LookUpPersonsStreamResponse(entries=entries)


def _of_other_persons(response: pb.LookUpPersonsStreamResponse) -> pb.LookUpPersonsStreamResponse:
    return pb.LookUpPersonsStreamResponse(
        entries=[entry(str(int(each.requested_identifier) + 50_000)) for each in response.entries]
    )


def _without_an_outcome(response: pb.LookUpPersonsStreamResponse) -> pb.LookUpPersonsStreamResponse:
    response.entries[7].ClearField("outcome")
    return response


def _empty(response: pb.LookUpPersonsStreamResponse) -> pb.LookUpPersonsStreamResponse:
    return pb.LookUpPersonsStreamResponse()


BROKEN: dict[str, Act] = {
    "one entry too few": alters(_without_last),
    "one entry too many": alters(_with_one_more),
    "two entries changed places": alters(_with_two_changed_places),
    "entries of others": alters(_of_other_persons),
    "an entry that says nothing": alters(_without_an_outcome),
    "an empty answer": alters(_empty),
    "an answer twice": adds(pb.LookUpPersonsStreamResponse(entries=map(entry, identifiers(1000)))),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_an_answer_to_something_else_is_raised_and_never_handed_over(
    scripted: ScriptedRegister, channel: grpc.Channel, broken: str
) -> None:
    scripted.acts.append(after(1, BROKEN[broken]))
    asked = identifiers()
    answered = []

    with pytest.raises(BrokenAnswer) as raised:
        for each in look_up(channel, asked):
            answered.append(each.requested_identifier)

    assert answered == asked[:1000]
    assert not any(each in str(raised.value) for each in asked[1:2000])


def test_an_answer_more_than_there_were_requests_is_raised(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(after(1, adds(pb.LookUpPersonsStreamResponse())))
    answered = []

    with pytest.raises(BrokenAnswer):
        for each in look_up(channel, identifiers(10)):
            answered.append(each)

    assert len(answered) == 10


def test_a_register_that_stays_away_is_given_up_in_time(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([after(2, AWAY), *[AWAY] * 999])
    answered = []
    begin = time.monotonic()

    with pytest.raises(RegisterError) as raised:
        for each in look_up(channel, identifiers(), give_up_after=1, silence=5):
            answered.append(each)

    assert raised.value.status is StatusCode.UNAVAILABLE
    assert len(answered) == 2000
    assert time.monotonic() - begin < 10


def test_a_register_that_answers_now_and_then_is_not_given_up(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([after(1, refuses(StatusCode.CANCELLED))] * 20)

    # A wait is 0.1 to 0.2 seconds: all of them together are longer than the patience.
    entries = list(look_up(channel, identifiers(20_500), give_up_after=1.5, longest_delay=0.2))

    assert len(entries) == 20_500
    assert not scripted.acts


def test_streams_that_only_ever_end_well_are_given_up_too(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([ends] * 999)

    with pytest.raises(RegisterError) as raised:
        list(look_up(channel, identifiers(10), give_up_after=0.3))

    assert raised.value.status is StatusCode.UNAVAILABLE


def test_the_register_says_how_long_to_wait_and_waiting_longer_than_patience_is_giving_up(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    busy = refuses(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_after=0.5)
    scripted.acts.extend([busy, right, busy])
    begin = time.monotonic()
    list(look_up(channel, identifiers(10)))
    assert time.monotonic() - begin > 0.5

    with pytest.raises(RegisterError) as raised:
        list(look_up(channel, identifiers(10), give_up_after=0.4))
    assert raised.value.retry_after == 0.5


def test_nobody_to_look_up_is_no_call(scripted: ScriptedRegister, channel: grpc.Channel) -> None:
    assert list(look_up(channel, [])) == []
    assert scripted.calls == []


def test_persons_asked_for_twice_are_answered_twice(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    asked = identifiers(10) * 300
    assert [each.requested_identifier for each in look_up(channel, asked)] == asked


def test_identifiers_are_read_no_further_ahead_than_some_thousands_and_in_the_readers_thread(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    read = 0
    threads = set()

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            threads.add(threading.current_thread())
            yield f"{read:011}"

    answers = look_up(channel, endless())
    ahead = []
    for answered, _ in enumerate(answers):
        ahead.append(read - answered)
        if answered == 20_000:
            break

    assert max(ahead) <= 4_000
    assert threads == {threading.current_thread()}


def test_an_error_in_the_identifiers_is_the_callers_own(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    def failing() -> Iterator[str]:
        yield from identifiers(10)
        raise RegisterError(StatusCode.UNAVAILABLE, "of another register")

    with pytest.raises(RegisterError, match="of another register"):
        list(look_up(channel, failing()))


def _threads() -> set[threading.Thread]:
    """Those there are, but for the ones that the scripted register serves with."""
    return {thread for thread in threading.enumerate() if "ThreadPoolExecutor" not in thread.name}


def test_closing_the_iterator_cancels_the_call_and_leaves_no_thread(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    before = _threads()
    answers = look_up(channel, identifiers())
    next(answers)
    time.sleep(0.2)  # so that gRPC's thread waits for a request more
    assert _threads() > before

    answers.close()  # type: ignore[attr-defined]  # a generator, though declared as an iterator

    give_up = time.monotonic() + 10
    while (_threads() > before or scripted.contexts[0].is_active()) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert _threads() == before
    assert not scripted.contexts[0].is_active()


@pytest.mark.parametrize(
    "break_it", [Wire.cut, Wire.tear_out, Wire.freeze], ids=["reset", "torn out", "frozen"]
)
def test_a_broken_wire_loses_no_answer(
    scripted: ScriptedRegister, wire: Wire, wired: grpc.Channel, break_it: Callable[[Wire], None]
) -> None:
    asked = identifiers()
    entries = []
    for each in look_up(wired, asked):
        entries.append(each)
        if len(entries) == 2500:
            break_it(wire)
            if break_it is Wire.tear_out:
                threading.Timer(0.3, wire.plug_in).start()
            if break_it is Wire.freeze:
                threading.Timer(0.6, wire.cut).start()

    assert entries == list(map(entry, asked))


def test_a_server_that_comes_up_later_answers(scripted: ScriptedRegister) -> None:
    scripted.end()
    with connect(f"127.0.0.1:{scripted.port}", CREDENTIAL) as channel:
        threading.Timer(0.3, scripted.start).start()
        assert len(list(look_up(channel, identifiers(10)))) == 10
