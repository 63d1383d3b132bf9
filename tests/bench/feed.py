"""The feed of changes: catching up from its start, and at its head with many who watch."""

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any

import grpc
from krr.v1 import citizen_service_pb2
from krr.v1 import register_service_pb2 as pb

from server.store.encoded_reads import CHANGES
from server.tokens import Tokens
from tests.bench import closed_loop, goals
from tests.bench.answers import CALLER
from tests.bench.bench import Bench
from tests.bench.calls import Calls
from tests.bench.processes import Failed, line_from, running
from tests.bench.raw_reads import RawReads
from tests.bench.register import Register
from tests.bench.runs import Measure, Path, Paths, Run, centile_99, elapsed
from tests.people import request_id

_WATCH = "/krr.v1.RegisterService/WatchChanges"
_CONFIRM = "/krr.v1.CitizenService/ConfirmContact"
_PAGE = 1000
_READERS = 2

COMMITS_A_SECOND = 30
WATCHERS, _PROCESSES = 100, 2
_WRITERS = 4


def catching_up(bench: Bench) -> Paths:
    """Two read the whole feed by pages of a thousand."""
    page = page_size(bench)
    with bench.cluster.connect(bench.register.database) as connection:
        rows = connection.execute("SELECT change_number FROM person ORDER BY 1")
        numbers = [0, *(row[0] for row in rows)]
    reads = RawReads(
        address=bench.cluster.address(bench.register.database),
        statement=CHANGES.sql.encode(),
        parameters=[(after, page) for after in numbers[:-page:page]],
        threads=_READERS,
        seconds=bench.seconds,
    )
    yield Path(
        "feed",
        [Measure("feed, catching up", "changes/s", goal=goals.FEED)],
        floor=lambda: bench.raw_reads(reads),
        ours=lambda: read_feed(bench, bench.register, bench.population.persons),
        process=bench.register.process,
    )


def page_size(bench: Bench) -> int:
    """A thousand, or less where the register is too small for several pages."""
    return min(_PAGE, max(1, bench.population.persons // 3))


def read_feed(bench: Bench, register: Register, persons: int) -> Run:
    """Read the feed of so many persons by watching from its start, over and over again."""
    page = page_size(bench)
    plan = Calls(
        kind="watch",
        address=register.address,
        method=_WATCH,
        requests=[(CALLER, pb.WatchChangesRequest(page_size=page).SerializeToString())],
        threads=_READERS,
        seconds=bench.seconds,
        items=page,
        answers=persons // page,
    )
    return closed_loop.run("tests.bench.calls", [plan], bench.folder, bench.watched(register))


def at_the_head(bench: Bench) -> Paths:
    """A hundred watch while thirty commits a second are made."""
    identifiers = bench.citizens(10_000)
    with grpc.insecure_channel(bench.register.address) as channel:
        yield Path(
            "head",
            [Measure("feed, at the head, 99 %", "ms", lambda run: run.p99 * 1e3, goal=goals.HEAD)],
            ours=lambda: _watch_while_writing(bench, channel.unary_unary(_CONFIRM), identifiers),
            process=bench.register.process,
        )


def _watch_while_writing(bench: Bench, confirm: Any, identifiers: list[str]) -> Run:
    """Time from the call that makes a commit to each watcher's having it, which is some more than
    from the commit."""
    began_by_number: dict[int, float] = {}
    log = bench.folder / "watchers.log"

    def write(person: str, at: float) -> None:
        request = citizen_service_pb2.ConfirmContactRequest(request_id=request_id(), identifier=person)
        time.sleep(max(0.0, at - time.monotonic()))
        began = time.monotonic()
        credential = (("authorization", f"Development citizen/{person}"),)
        answer = confirm(request.SerializeToString(), metadata=credential, timeout=10)
        response = citizen_service_pb2.ConfirmContactResponse.FromString(answer)
        began_by_number[response.answer.change_number] = began

    with ExitStack() as stack, ThreadPoolExecutor(_WRITERS) as pool:
        program = ("-m", "tests.bench.watchers", bench.register.address, CALLER, _head(bench))
        watching = [
            stack.enter_context(running(*program, str(WATCHERS // _PROCESSES), log=log))
            for _ in range(_PROCESSES)
        ]
        for process in watching:
            line_from(process, log)
        with elapsed(bench.watched(bench.register)) as passed:
            began = time.monotonic()
            # None of them twice: who has changed again before a page was read is on it once.
            persons = random.sample(identifiers, max(1, round(COMMITS_A_SECOND * bench.seconds)))
            list(pool.map(write, persons, (began + number / COMMITS_A_SECOND for number in count())))
        came: list[tuple[int, float]] = []
        for process in watching:
            assert process.stdin
            process.stdin.write(f"{len(began_by_number)}\n")
            process.stdin.flush()
            came += json.loads(line_from(process, log))
    if len(came) != WATCHERS * len(began_by_number):
        raise Failed(f"{len(began_by_number)} commits, {WATCHERS} watchers, {len(came)} arrivals")
    times = [at - began_by_number[number] for number, at in came]
    return Run(len(came), passed.seconds, centile_99(times), passed.cpu)


def _head(bench: Bench) -> str:
    """The cursor of who has caught up."""
    with bench.cluster.connect(bench.register.database) as connection:
        row = connection.execute("SELECT epoch, last_change_number FROM register").fetchone()
    assert row
    return Tokens(row[0]).cursor(row[1])
