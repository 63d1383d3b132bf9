"""WatchChanges: every change, at once, from any cursor, however often it is cut."""

import queue
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import citizen_service_pb2, person_pb2
from krr.v1 import register_service_pb2 as pb

from server import feed
from server.__main__ import Server
from server.config import Settings
from server.tokens import Tokens
from tests.conftest import Register
from tests.open_folder import open_folder
from tests.people import KARI, NIELS, OLA, register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.process import Postgres, run, serving
from tests.server.rpcs import Rpcs
from tests.server.test_changes import page, update
from tests.server.test_look_up import EMAIL, FRESH, MAILBOX, contact, load
from tests.server.valid_requests import LOG_IN_SERVICE
from tests.server.watching import wait_until, watch_changes


def seen(pages: list[Any]) -> list[tuple[str, int]]:
    return [(person.identifier, person.change_number) for page in pages for person in page.persons]


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_watch_from_any_cursor_sends_the_pages_after_it(register: Register, rpcs: Rpcs, size: int) -> None:
    persons = list(zip(islice(people(), 7), range(1, 8), strict=True))
    for identifier, _ in persons:
        load(register, identifier, email=contact(f"first{identifier[-6:]}@example.com", FRESH))

    pages = watch_changes(rpcs, page_size=size).pages_until_caught_up()

    assert seen(pages) == persons
    assert all(len(each.persons) <= size for each in pages)
    done = 0
    for each in pages:
        done += len(each.persons)
        assert seen(watch_changes(rpcs, each.cursor, size).pages_until_caught_up()) == persons[done:]


def test_an_empty_register_is_a_page_at_once_that_is_caught_up(rpcs: Rpcs) -> None:
    first = watch_changes(rpcs).page(within=2)

    assert first.caught_up
    assert first.cursor
    assert not first.persons


def test_a_change_reaches_an_idle_watcher_at_once(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    watch = watch_changes(rpcs)
    watch.page()
    for number in range(5):
        time.sleep(0.3)
        update(register, OLA, f"ola{number}@example.com")

        came = watch.page(within=1)

        [person] = came.persons
        assert person.email.value == f"ola{number}@example.com"
        assert came.caught_up
        assert not page(register, came.cursor).persons


def test_while_nothing_changes_an_empty_page_with_a_cursor_comes_every_10_seconds(
    register: Register, rpcs: Rpcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert feed.HEARTBEAT_SECONDS == 10
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.4)
    load(register, OLA, email=EMAIL)
    watch = watch_changes(rpcs)
    cursor = watch.page().cursor

    for _ in range(3):
        began = time.monotonic()
        heartbeat = watch.page(within=4)
        assert 0.2 < time.monotonic() - began < 4
        assert heartbeat == pb.WatchChangesResponse(cursor=cursor, caught_up=True)


def test_a_cursor_that_this_register_did_not_give_ends_the_watch_with_its_reason(
    register: Register, rpcs: Rpcs, server: Server
) -> None:
    load(register, OLA, email=EMAIL)
    tokens = Tokens(server._store.epoch)

    for given, reason, fields in (
        (tokens.cursor(2), "AHEAD_OF_REGISTER", ()),
        (Tokens(uuid4()).cursor(1), "FEED_RESET", ()),
        (tokens.mailbox_cursor(1), "INVALID_TOKEN", ("after_cursor",)),
        (tokens.freshness(1), "INVALID_TOKEN", ("after_cursor",)),
        (tokens.cursor(1)[:-1], "INVALID_TOKEN", ("after_cursor",)),
        ("x", "INVALID_TOKEN", ("after_cursor",)),
    ):
        ended = watch_changes(rpcs, given).outcome()
        assert (ended.reason, ended.fields) == (reason, fields), given
    for size in (-1, 1001):
        assert watch_changes(rpcs, page_size=size).outcome().fields == ("page_size",)


def test_a_deletion_reaches_a_watcher_as_a_tombstone(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL, **MAILBOX)
    watch = watch_changes(rpcs)
    watch.page()

    register.as_citizen(OLA).DeletePerson(
        citizen_service_pb2.DeletePersonRequest(request_id=request_id(), identifier=OLA)
    )

    [gone] = watch.page(within=1).persons
    assert (gone.identifier, gone.status, gone.change_number) == (OLA, person_pb2.PERSON_STATUS_DELETED, 2)
    assert not gone.HasField("email")
    assert not gone.HasField("mailbox")


def test_watchers_of_any_page_size_that_reconnect_at_random_end_with_what_the_register_holds(
    register: Register, rpcs: Rpcs
) -> None:
    persons = list(islice(people(), 12))
    for identifier in persons:
        # Not the same address: the register would then make changes of its own.
        load(register, identifier, email=contact(f"first{identifier[-6:]}@example.com", FRESH))
    last = 0

    def write(share: list[str], seed: int) -> int:
        chance, number = random.Random(seed), 0
        for step in range(25):
            answer = update(register, chance.choice(share), f"step{step}.{seed}@example.com")
            number = max(number, answer.change_number)
        return number

    def follow(size: int) -> tuple[dict[str, Any], list[int]]:
        chance, cursor = random.Random(size), ""
        copy: dict[str, Any] = {}
        numbers: list[int] = []
        while not last or not numbers or numbers[-1] < last:
            # One in three gives up while others share its pages.
            watch = watch_changes(rpcs, cursor, size, timeout=chance.choice([0.3, 20, 20]))
            for _ in range(chance.randint(1, 9)):
                try:
                    came = watch.page(within=1)
                except (AssertionError, queue.Empty):
                    break
                cursor = came.cursor
                for person in came.persons:
                    copy[person.identifier] = person
                    numbers.append(person.change_number)
            watch.cancel()
        return copy, numbers

    with ThreadPoolExecutor(9) as pool:
        followers = [pool.submit(follow, size) for size in (1, 2, 5, 1000, 1000, 1000)]
        writers = [pool.submit(write, persons[n::3], n) for n in range(3)]
        last = max(writer.result() for writer in writers)
        results = [follower.result(timeout=30) for follower in followers]

    held = {person.identifier: person for person in page(register).persons}
    assert held.keys() == set(persons)
    for copy, numbers in results:
        assert copy == held
        # Each state once, in order, across all cuts.
        assert numbers == sorted(set(numbers))


def test_the_deadline_of_one_watcher_ends_no_other(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    lasting = [watch_changes(rpcs) for _ in range(3)]
    brief = [watch_changes(rpcs, timeout=1) for _ in range(5)]

    for step in range(40):
        time.sleep(0.04)
        update(register, OLA, f"step{step}@example.com")

    for watch in brief:
        assert watch.outcome().code is StatusCode.DEADLINE_EXCEEDED
    for watch in lasting:
        while watch.page(within=1).persons[0].email.value != "step39@example.com":
            pass


def test_who_cancels_is_let_go_at_once(rpcs: Rpcs, server: Server) -> None:
    watches = [watch_changes(rpcs) for _ in range(5)]
    for watch in watches:
        watch.page()

    for watch in watches:
        watch.cancel()

    wait_until(lambda: not server._streams._open, 1, "its slot is free")


def test_when_the_server_ends_watchers_are_told_and_go_on_at_another(settings: Settings) -> None:
    server, other = Server(settings), Server(settings)
    rpcs, others = (Rpcs(f"127.0.0.1:{each.port}") for each in (server, other))
    rpcs.call("CitizenService/RegisterPerson", register_request(OLA), LOG_IN_SERVICE)
    watches = [watch_changes(rpcs) for _ in range(3)]
    cursors = [watch.page().cursor for watch in watches]

    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        ending = pool.submit(server.end)
        for watch in watches:
            ended = watch.outcome(within=1)
            assert (ended.code, ended.reason) == (StatusCode.UNAVAILABLE, "SERVER_ENDING")
            assert ended.retry_after
        ending.result()
        assert time.monotonic() - began < 4

    others.call("CitizenService/RegisterPerson", register_request(KARI), LOG_IN_SERVICE)
    for cursor in cursors:
        assert seen([watch_changes(others, cursor).page()]) == [(KARI, 2)]
    for calls in (rpcs, others):
        calls.close()
    other.end()


def test_who_is_far_behind_is_told_too_when_the_server_ends(settings: Settings) -> None:
    server = Server(settings)
    rpcs = Rpcs(f"127.0.0.1:{server.port}")
    for identifier in islice(people(), 300):
        rpcs.call("CitizenService/RegisterPerson", register_request(identifier), LOG_IN_SERVICE)
    watch = watch_changes(rpcs, page_size=1)
    watch.page()

    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(server.end)
        assert watch.outcome(within=2).reason == "SERVER_ENDING"
        ending.result()
    rpcs.close()


@pytest.fixture
def durable() -> Iterator[Postgres]:
    """A PostgreSQL that can be killed."""
    with open_folder() as folder:
        postgres = Postgres(folder / "postgres")
        assert run(folder, "migrate", database_url=postgres.url).returncode == 0
        yield postgres
        postgres.end()


def test_sigterm_tells_a_watcher_and_a_killed_database_only_until_it_is_back(
    durable: Postgres, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HEARTBEAT_SECONDS", 0.3)
    server = Server(settings.model_copy(update={"database_url": durable.url}))
    rpcs = Rpcs(f"127.0.0.1:{server.port}")
    watch = watch_changes(rpcs)
    cursor = watch.page().cursor

    durable.kill()
    try:
        ended = watch.outcome()
        assert (ended.code, ended.reason) == (StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        assert ended.retry_after
        assert watch_changes(rpcs, cursor).outcome().reason == "DATABASE_UNAVAILABLE"
    finally:
        durable.start()

    rpcs.call("CitizenService/RegisterPerson", register_request(NIELS), LOG_IN_SERVICE)
    back = watch_changes(rpcs, cursor)
    assert seen([back.page()]) == [(NIELS, 1)]
    rpcs.close()
    server.end()

    with serving(tmp_path / "process", durable.url) as process:
        rpcs = Rpcs(process.address)
        watch = watch_changes(rpcs, cursor)
        watch.page()
        assert process.end() == 0
        assert watch.outcome(within=1).reason == "SERVER_ENDING"
        rpcs.close()


def test_a_request_that_nobody_can_decode_ends_its_call_and_lets_the_server_end(
    settings: Settings,
) -> None:
    server = Server(settings)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for rpc in ("WatchChanges", "LookUpPersonsStream"):
            call: Any = channel.stream_stream(f"/krr.v1.RegisterService/{rpc}")
            with pytest.raises(grpc.RpcError) as refused:
                next(
                    call(
                        iter([b"\x0a\xff"]),
                        metadata=(("authorization", "Development public-body/991825827"),),
                    )
                )
            error: Any = refused.value
            assert error.code() is StatusCode.INVALID_ARGUMENT
    began = time.monotonic()

    server.end()

    assert time.monotonic() - began < 4
