"""Every row of an import comes into the register exactly once, whatever happens on the way."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_import_pb2, person_pb2
from krr_client import RegisterError, connect, import_persons

from tests.clients.conftest import CREDENTIAL
from tests.clients.scripted_imports import ScriptedImports
from tests.clients.scripted_register import (
    Act,
    Wire,
    crashes,
    ends,
    is_silent,
    refuses,
    refuses_unreadably,
)
from tests.people import request_id

# More messages than can wait to be sent; the last one is not full.
COUNT = 12_300
AWAY = refuses(StatusCode.UNAVAILABLE)


@pytest.fixture
def scripted() -> Iterator[ScriptedImports]:
    running = ScriptedImports()
    running.start()
    yield running
    running.end()


@pytest.fixture
def connected(scripted: ScriptedImports) -> Iterator[grpc.Channel]:
    with connect(f"127.0.0.1:{scripted.port}", CREDENTIAL) as opened:
        yield opened


def row(number: int, **fields: Any) -> pb.ImportRow:
    return pb.ImportRow(row=number, person=pb.PersonToLoad(identifier=f"{number:011}", **fields))


def rows_after(last: int) -> Callable[[int], Iterator[pb.ImportRow]]:
    return lambda after: map(row, range(after + 1, last + 1))


ROWS = rows_after(COUNT)


def run(
    channel: grpc.Channel,
    rows: Callable[[int], Any] = ROWS,
    import_id: str = "",
    **settings: Any,
) -> Iterator[person_import_pb2.PersonImport]:
    quick = {"ask_every": 0.02, "silence": 1, "longest_delay": 0.05, "give_up_after": 20}
    return import_persons(channel, import_id or request_id(), rows, **quick | settings)


def entered(scripted: ScriptedImports) -> list[int]:
    [only] = scripted.imports.values()
    return only.entered


CUTS: dict[str, list[tuple[int | None, Act]]] = {
    "nothing": [],
    "unavailable before the first message": [(0, AWAY)],
    "unavailable more often than gRPC retries": [(0, AWAY)] * 6,
    "unavailable in the middle": [(5, AWAY)],
    "unavailable again and again": [(3, AWAY)] * 5,
    "unavailable instead of the answer": [(None, AWAY)],
    "unavailable with details nobody can read": [(2, refuses_unreadably)],
    "answered before the last message": [(4, ends)],
    "answered before the last message, again and again": [(3, ends)] * 5,
    "cancelled by somebody on the way": [(2, refuses(StatusCode.CANCELLED))],
    "deadline": [(2, refuses(StatusCode.DEADLINE_EXCEEDED, "DEADLINE"))],
    "internal from the transport": [(2, refuses(StatusCode.INTERNAL))],
    "unknown because the handler crashed": [(2, crashes)],
    "too many streams": [(0, refuses(StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_after=0.01))],
    "database away": [(7, refuses(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", retry_after=0.01))],
    "finished, it says, which it is not": [(0, refuses(StatusCode.FAILED_PRECONDITION, "IMPORT_FINISHED"))],
    "everything": [(0, AWAY), (3, ends), (4, crashes), (2, AWAY), (None, refuses(StatusCode.CANCELLED))],
}


@pytest.mark.parametrize("cut", CUTS)
def test_every_row_is_entered_once_and_in_order(
    scripted: ScriptedImports, connected: grpc.Channel, cut: str
) -> None:
    scripted.acts.extend(CUTS[cut])

    told = list(run(connected))

    assert entered(scripted) == list(range(1, COUNT + 1))
    assert not scripted.acts
    received = [each.received_row for each in told]
    assert received == sorted(received)
    assert (told[-1].state, received[-1]) == (person_import_pb2.IMPORT_STATE_FINISHED, COUNT)
    assert told[-1].loaded_count == COUNT


REFUSALS = {
    "not the id of an import": (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    "credential refused": (StatusCode.UNAUTHENTICATED, "CREDENTIAL_REFUSED"),
    "no administrator": (StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"),
    "a fault in the register": (StatusCode.INTERNAL, "INTERNAL"),
    "an older register": (StatusCode.UNIMPLEMENTED, ""),
}


@pytest.mark.parametrize("messages", [0, 3, None])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_raised_at_once(
    scripted: ScriptedImports, connected: grpc.Channel, refusal: str, messages: int | None
) -> None:
    status, reason = REFUSALS[refusal]
    scripted.acts.append((messages, refuses(status, reason)))

    with pytest.raises(RegisterError) as raised:
        list(run(connected))

    assert (raised.value.status, raised.value.reason) == (status, reason)
    assert len(scripted.contexts) == 1


def test_a_finished_import_is_told_and_nothing_is_read_for_it(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    same = request_id()
    first = list(run(connected, import_id=same))

    def rows(after: int) -> Iterator[pb.ImportRow]:
        raise AssertionError("read")

    assert list(run(connected, rows, same)) == first[-1:]
    assert len(scripted.contexts) == 1


def test_an_import_that_was_left_goes_on_after_what_the_register_has(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    same = request_id()
    for progress in run(connected, import_id=same):
        if progress.received_row:
            break
    left_at = progress.received_row
    assert 0 < left_at < COUNT
    # What was on its way may still arrive.
    time.sleep(0.2)

    told = list(run(connected, import_id=same))

    assert entered(scripted) == list(range(1, COUNT + 1))
    assert scripted.first_rows[0] == 1
    assert scripted.first_rows[1] == told[0].received_row + 1 > left_at


def test_a_register_that_stays_away_is_given_up_in_time(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    scripted.acts.extend([(4, AWAY), *[(0, AWAY)] * 999])
    begin = time.monotonic()
    told = []

    with pytest.raises(RegisterError) as raised:
        for progress in run(connected, give_up_after=0.5):
            told.append(progress.received_row)

    assert raised.value.status is StatusCode.UNAVAILABLE
    assert told[-1] == 4000
    assert time.monotonic() - begin < 10


def test_a_register_that_gets_on_now_and_then_is_not_given_up(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    # Each time 2,000 rows further. A wait is 0.1 to 0.2 seconds: all of them together are longer
    # than the patience.
    scripted.acts.extend([(3, AWAY)] * 20)

    list(run(connected, rows_after(42_300), give_up_after=2, longest_delay=0.2))

    assert len(entered(scripted)) == 42_300
    assert not scripted.acts


def test_a_register_that_gives_no_sign_is_cut_off(scripted: ScriptedImports, connected: grpc.Channel) -> None:
    scripted.acts.append((3, is_silent))
    threading.Timer(0.2, scripted.answers_no_question.set).start()
    threading.Timer(3, scripted.answers_no_question.clear).start()

    list(run(connected, silence=1))

    assert entered(scripted) == list(range(1, COUNT + 1))
    assert len(scripted.contexts) == 2


def test_a_register_that_works_on_one_message_for_long_is_waited_for(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    def takes_its_time(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        time.sleep(3)
        yield from ()

    scripted.acts.append((None, takes_its_time))

    list(run(connected, silence=1, give_up_after=0))

    assert len(scripted.contexts) == 1


@pytest.mark.parametrize(
    "break_it", [Wire.cut, Wire.tear_out, Wire.freeze], ids=["reset", "torn out", "frozen"]
)
def test_a_broken_wire_loses_no_row(scripted: ScriptedImports, break_it: Callable[[Wire], None]) -> None:
    wire = Wire(scripted.port)
    wire.plug_in()
    is_broken = False
    with connect(f"127.0.0.1:{wire.port}", CREDENTIAL) as wired:
        for progress in run(wired):
            if progress.received_row > 2000 and not is_broken:
                is_broken = True
                break_it(wire)
                if break_it is Wire.tear_out:
                    threading.Timer(0.3, wire.plug_in).start()
                if break_it is Wire.freeze:
                    threading.Timer(0.6, wire.cut).start()
    wire.tear_out()

    assert is_broken
    assert entered(scripted) == list(range(1, COUNT + 1))


def test_messages_are_as_full_as_the_register_takes_them(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    def rows(after: int) -> Iterator[pb.ImportRow]:
        box = person_pb2.Mailbox(certificate=bytes(10_000))
        assert after == 0
        yield from (row(number, mailboxes=[box, box]) for number in range(1, 1200))
        yield row(1200, chosen_operator_organisation_number="9" * 5_000_000)
        yield from map(row, range(1201, 3001))

    told = list(run(connected, rows))

    [only] = scripted.imports.values()
    assert only.entered == [*range(1, 1200), *range(1201, 3001)]
    assert only.rejected == [(1200, "row")]
    assert told[-1].rejected_count == 1
    assert max(rows for rows, _ in scripted.sizes) == 1000
    assert sum(size for _, size in scripted.sizes) / len(scripted.sizes) > 1_000_000


def test_no_rows_at_all_are_an_import_too(scripted: ScriptedImports, connected: grpc.Channel) -> None:
    [told] = run(connected, lambda _: [])
    assert (told.state, told.received_row) == (person_import_pb2.IMPORT_STATE_FINISHED, 0)


def test_a_check_is_said_to_be_one(scripted: ScriptedImports, connected: grpc.Channel) -> None:
    *_, told = run(connected, check_only=True)
    assert told.check_only


def test_rows_are_read_no_faster_than_they_are_taken_and_in_the_callers_thread(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    scripted.acts.append((2, is_silent))
    threads, read = set(), 0

    def endless(after: int) -> Iterator[pb.ImportRow]:
        nonlocal read
        for number in count(after + 1):
            threads.add(threading.current_thread())
            read = number
            # A kilobyte each: what the wire holds is not many of them.
            yield row(number, chosen_operator_organisation_number="9" * 1000)

    threading.Timer(1.0, scripted.end).start()
    with pytest.raises(RegisterError):
        for _ in run(connected, endless, give_up_after=0):
            pass

    assert 2000 < read < 40_000
    assert threads == {threading.current_thread()}


def test_an_error_in_the_rows_is_the_callers_own_and_ends_the_call(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    def failing(after: int) -> Iterator[pb.ImportRow]:
        yield from map(row, range(1, 5001))
        raise RegisterError(StatusCode.UNAVAILABLE, "of another register")

    with pytest.raises(RegisterError, match="of another register"):
        list(run(connected, failing))

    give_up = time.monotonic() + 10
    while scripted.contexts[0].is_active() and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not scripted.contexts[0].is_active()
    [only] = scripted.imports.values()
    assert not only.finished


def _threads() -> set[threading.Thread]:
    """Those there are, but for the ones that the scripted register serves with."""
    return {thread for thread in threading.enumerate() if "ThreadPoolExecutor" not in thread.name}


def test_closing_the_iterator_cancels_the_call_and_leaves_no_thread(
    scripted: ScriptedImports, connected: grpc.Channel
) -> None:
    before = _threads()
    scripted.acts.append((2, is_silent))
    importing = run(connected)
    next(importing)

    importing.close()  # type: ignore[attr-defined]  # a generator, though declared as an iterator

    give_up = time.monotonic() + 10
    while (_threads() > before or scripted.contexts[0].is_active()) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert _threads() == before
    assert not scripted.contexts[0].is_active()
