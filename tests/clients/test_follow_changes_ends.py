"""Where the way to the register breaks, and where the reader wants no more."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import grpc
import pytest
from grpc import StatusCode
from krr_client import ChangesPage, Following, RegisterError, connect, follow_changes

from tests.clients.feed_copy import ALL, ENOUGH_SECONDS, LAST, SILENCE, Copy, following, keep, person, truth
from tests.clients.scripted_register import ScriptedRegister, Wire, after, is_silent, refuses, right


def _torn_for_a_while(wire: Wire) -> None:
    wire.tear_out()
    threading.Timer(0.5, wire.plug_in).start()


@pytest.mark.parametrize("at_page", [1, ALL])
@pytest.mark.parametrize(
    "break_it", [Wire.cut, Wire.freeze, _torn_for_a_while], ids=["reset", "frozen", "torn out"]
)
def test_a_broken_wire_loses_no_page(
    scripted: ScriptedRegister,
    wire: Wire,
    wired: grpc.Channel,
    break_it: Callable[[Wire], None],
    at_page: int,
) -> None:
    # The stream stands still where the wire breaks, so that nothing is under way.
    scripted.acts.append(after(at_page, is_silent))
    copy = Copy()

    with following(wired) as feed:
        for page in feed:
            copy.save(page)
            if len(copy.cursors) == at_page:
                break_it(wire)
                if break_it is Wire.freeze:
                    threading.Timer(2 * SILENCE, wire.cut).start()
            if LAST in copy.persons:
                break
            if page.caught_up:
                scripted.commit(person(LAST, 100))

    assert copy.persons == truth(scripted)
    assert copy.cursors == ["1-1", "1-2", "1-3", "1-4", "1-5"]
    assert wire.connections > 1


def test_a_server_that_comes_up_later_is_found(scripted: ScriptedRegister) -> None:
    scripted.end()
    copy = Copy()
    with connect(f"127.0.0.1:{scripted.port}", "Development public-body/991825827") as channel:
        threading.Timer(0.6, scripted.start).start()
        keep(copy, scripted, channel)

    assert copy.persons == truth(scripted)


@pytest.mark.parametrize("grace", [None, 5.0], ids=["at once", "gracefully"])
def test_a_server_that_is_replaced_is_followed_on(
    scripted: ScriptedRegister, channel: grpc.Channel, grace: float | None
) -> None:
    copy = Copy()
    with following(channel) as feed:
        for page in feed:
            copy.save(page)
            if page.cursor == "1-4":
                scripted.end(grace)
                scripted.commit(person(LAST, 100))
                scripted.start()
            if LAST in copy.persons:
                break

    assert copy.persons == truth(scripted)
    assert copy.cursors == ["1-1", "1-2", "1-3", "1-4", "1-5"]


def _waits(feed: Following[ChangesPage]) -> threading.Thread:
    """A thread that has read what there is and waits for more; it ends when the feed does."""
    caught_up = threading.Event()

    def read() -> None:
        with suppress(RegisterError, ValueError):
            for page in feed:
                if page.caught_up:
                    caught_up.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert caught_up.wait(ENOUGH_SECONDS)
    return thread


def _until(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + ENOUGH_SECONDS
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.01)
    return condition()


def test_closing_it_from_another_thread_ends_it_and_the_call(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(after(ALL, is_silent))
    feed = follow_changes(channel, silence=3600)
    reader = _waits(feed)

    feed.close()
    reader.join(ENOUGH_SECONDS)

    assert not reader.is_alive()
    assert _until(lambda: not scripted.contexts[0].is_active())
    with pytest.raises(StopIteration):
        next(feed)


def test_closing_it_ends_a_long_wait_for_a_register_that_is_away(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend(
        [right, refuses(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_after=3600)]
    )
    feed = following(channel)
    reader = _waits(feed)
    scripted.contexts[0].cancel()
    assert _until(lambda: len(scripted.calls) > 1)
    time.sleep(0.2)  # for the refusal to come

    feed.close()
    reader.join(ENOUGH_SECONDS)

    assert not reader.is_alive()
    assert len(scripted.calls) == 2


def test_closing_the_channel_raises_and_is_not_the_end(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    feed = following(channel)
    next(feed)
    threading.Timer(0.2, channel.close).start()

    with pytest.raises((RegisterError, ValueError)):
        for _ in feed:
            pass


def test_a_reader_that_is_dropped_cancels_its_call(scripted: ScriptedRegister, channel: grpc.Channel) -> None:
    for _ in following(channel):
        break

    assert _until(lambda: not scripted.contexts[0].is_active())
