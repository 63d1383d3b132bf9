"""PushEvents as a stream: groups, back pressure, caps, cuts, several at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import grpc
import pytest
from krr.v1 import citizen_service_pb2, mailbox_event_pb2, person_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb
from psycopg import Connection

from server import mailbox_events
from server.__main__ import Server
from server.config import Settings
from tests.conftest import Register
from tests.mailbox_events import CHOICE, REMOVAL, content, event
from tests.people import request_id
from tests.people import synthetic_identifiers as people
from tests.server.database import connect
from tests.server.pushing import PUSH, Push, pushed, result, results
from tests.server.rpcs import Rpcs
from tests.server.test_look_up import EMAIL, load
from tests.server.valid_requests import AT_DIGIPOST, AT_EBOKS
from tests.server.watching import wait_until

OPERATIONS: tuple[dict[str, Any], ...] = (
    {"create": content("synthetic.person#1")},
    {"choose": CHOICE},
    {"delete": REMOVAL},
)
# Of 1000 events: their acknowledgements fill every buffer between server and client.
MESSAGES = 40
COMMITS = "SELECT count(DISTINCT xmin::text) FROM request WHERE caller LIKE 'operator/%'"
APPLIED = "SELECT count(*) FROM request WHERE caller LIKE 'operator/%'"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name = 'krr' AND wait_event_type = 'Lock'"
)
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A cap that is soon reached, and a stall time as short as may be."""
    return settings.model_copy(update={"max_streams": 6, "stream_stall_seconds": 2})


def some(count: int) -> list[str]:
    return list(islice(people(), count))


def creation(identifier: str, address: str = "synthetic.person#1") -> mailbox_event_pb2.MailboxEvent:
    return event(identifier, create_and_choose=content(address))


def load_all(register: Register, persons: list[str]) -> None:
    for identifier in persons:
        load(register, identifier, email=EMAIL)


def count(database: "Connection[Any]", query: str) -> int:
    [(found,)] = database.execute(query.encode()).fetchall()
    return int(found)


def result_of_reservation(register: Register, identifier: str) -> str:
    request = citizen_service_pb2.ReserveRequest(request_id=request_id(), identifier=identifier)
    answer = register.as_citizen(identifier).Reserve(request).answer
    return person_pb2.WriteResult.Name(answer.result).removeprefix("WRITE_RESULT_")


def test_events_of_a_message_are_committed_in_groups_none_of_which_holds_a_person_or_an_id_twice(
    register: Register, rpcs: Rpcs, database: "Connection[Any]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox_events, "GROUP", 10)
    persons = some(25)
    load_all(register, persons)
    events = [creation(identifier) for identifier in persons]
    push = Push(rpcs)

    push.send(*events)
    groups = [len(push.watch.page().acknowledgements) for _ in range(3)]
    assert groups == [10, 10, 5]
    assert count(database, COMMITS) == 3
    # The same person, and the same event.
    push.send(event(persons[0], 2, delete=REMOVAL), event(persons[0], 3, delete=REMOVAL))
    push.send(events[0], event(persons[1], 2, delete=REMOVAL), events[0])

    assert [len(push.watch.page().acknowledgements) for _ in range(4)] == [1, 1, 2, 1]
    push.close()
    assert push.watch.outcome().code is grpc.StatusCode.OK


def test_who_takes_no_answers_has_no_more_events_applied_and_is_cut_off_in_the_end(
    rpcs: Rpcs, server: Server, database: "Connection[Any]"
) -> None:
    # Takes little in advance of what is read.
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 * 1024)]
    messages = [
        pb.PushEventsRequest(events=[event("", delete=REMOVAL) for _ in range(1000)]) for _ in range(MESSAGES)
    ]
    with grpc.insecure_channel(rpcs.address, options=options) as channel:
        push: Any = channel.stream_stream(
            f"/krr.v1.{PUSH}",
            request_serializer=pb.PushEventsRequest.SerializeToString,
            response_deserializer=pb.PushEventsResponse.FromString,
        )
        call = push(iter(messages), metadata=(("authorization", f"Development {AT_DIGIPOST}"),))
        wait_until(lambda: count(database, APPLIED) > 0, 20, "it is begun")

        # Had all been applied, it would have ended well.
        wait_until(lambda: not server._streams._open, 120, "it is cut off")

        assert count(database, APPLIED) < MESSAGES * 1000
        with pytest.raises(grpc.RpcError) as ended:
            list(call)
        assert ended.value.code() is grpc.StatusCode.CANCELLED


def test_pushes_count_among_the_capped_streams_and_the_last_event_of_one_that_is_cut_off_stands(
    register: Register, rpcs: Rpcs, server: Server
) -> None:
    persons = some(6)
    load_all(register, persons)
    pushes = [Push(rpcs) for _ in persons]
    for push, identifier in zip(pushes, persons, strict=True):
        push.send(creation(identifier))
        push.acknowledgements(1)

    refused = rpcs.call(PUSH, pb.PushEventsRequest(events=[creation(persons[0])]), AT_DIGIPOST)
    assert (refused.reason, bool(refused.retry_after)) == ("TOO_MANY_STREAMS", True)

    for push in pushes:
        assert push.watch.outcome(within=30).code is grpc.StatusCode.CANCELLED
    wait_until(lambda: not server._streams._open, 10, "their slots are free")
    mailboxes = register.as_digipost().ListMailboxes(pb.ListMailboxesRequest()).mailboxes
    assert {held.identifier for held in mailboxes} == set(persons)


def test_a_server_that_ends_answers_the_message_in_hand_and_takes_no_other(settings: Settings) -> None:
    server = Server(settings.model_copy(update={"stream_stall_seconds": 30}))
    rpcs = Rpcs(f"127.0.0.1:{server.port}")
    push = Push(rpcs)
    push.send(*[event(identifier, delete=REMOVAL) for identifier in some(1000)])
    push.watch.page()
    ending = threading.Thread(target=server.end)
    ending.start()
    wait_until(server._streams._ended.is_set, 10, "the server ends")
    push.send(event(delete=REMOVAL))

    rest = push.acknowledgements(1000 - mailbox_events.GROUP)

    assert {result(each.answer) for each in rest} == {"PERSON_NOT_FOUND"}
    ended = push.watch.outcome()
    assert (ended.code.name, ended.reason) == ("UNAVAILABLE", "SERVER_ENDING")
    ending.join()
    rpcs.close()


def test_two_operators_about_the_same_persons_in_opposite_order_do_not_deadlock(
    register: Register, rpcs: Rpcs, database: "Connection[Any]"
) -> None:
    persons = some(60)
    load_all(register, persons)
    before = count(database, DEADLOCKS)

    def push(caller: str, order: Callable[[list[str]], Any]) -> list[pb.MailboxAnswer]:
        answers = []
        for sequence in range(1, 31, 3):
            for number, operation in enumerate(OPERATIONS):
                events = [event(each, sequence + number, **operation) for each in order(persons)]
                answers += pushed(rpcs, events, caller)
        return answers

    with ThreadPoolExecutor() as threads:
        both = list(threads.map(push, (AT_DIGIPOST, AT_EBOKS), (list, reversed)))

    for answers in both:
        assert set(map(result, answers)) <= {"OK", "ALREADY_CHOSEN"}
    database.execute("SELECT pg_stat_clear_snapshot()")
    assert count(database, DEADLOCKS) == before
    for operator in (register.as_digipost(), register.as_eboks()):
        assert not any(held.address for held in operator.ListMailboxes(pb.ListMailboxesRequest()).mailboxes)


def test_the_same_events_on_several_streams_at_once_are_applied_once(register: Register, rpcs: Rpcs) -> None:
    persons = some(50)
    load_all(register, persons)
    events = [creation(identifier) for identifier in persons]
    events += [event(identifier, 2, delete=REMOVAL) for identifier in persons]

    with ThreadPoolExecutor() as threads:
        of_streams = list(threads.map(lambda _: pushed(rpcs, events), range(4)))

    for answers in zip(*of_streams, strict=True):
        assert sorted(answer.duplicate for answer in answers) == [False, True, True, True]
        assert len({answer.change_number for answer in answers}) == 1
    assert {result(answer) for answers in of_streams for answer in answers} == {"OK"}


def test_an_operator_with_many_streams_leaves_connections_to_others(
    register: Register, rpcs: Rpcs, database: "Connection[Any]", database_url: str
) -> None:
    persons = some(7)
    load_all(register, persons)

    with connect(database_url) as other, ThreadPoolExecutor() as threads:
        with other.transaction():
            other.execute("LOCK TABLE mailbox_sequence IN ACCESS EXCLUSIVE MODE")
            pushes = [
                threads.submit(pushed, rpcs, [creation(identifier)], AT_DIGIPOST)
                for identifier in persons[:6]
            ]
            wait_until(lambda: count(database, WAITING) == 2, 20, "its turns are taken")
            assert result_of_reservation(register, persons[6]) == "CHANGED"
            assert count(database, WAITING) <= 2
        answers = [answer for push in pushes for answer in push.result(timeout=30)]

    assert results(answers) == " ".join(["OK"] * 6)
