"""Operators push through cuts and kill -9 of server and PostgreSQL: nothing is lost, nothing counts twice."""

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import krr_client
import psycopg
import pytest
from krr.v1 import admin_service_pb2, mailbox_event_pb2, person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr_client.push_events import push_events

from tests.clients.scripted_register import Wire
from tests.e2e.parts import Parts, register_alone
from tests.e2e.pushed_events import Answered, answered, explain, first_answers, make_events
from tests.mailbox_events import Model, ModelPerson
from tests.open_folder import open_folder
from tests.people import DIGIPOST, EBOKS, request_id, synthetic_identifiers
from tests.server.database import connect

EVENTS, PERSONS = 100_000, 4_000
KILLS = ("server", "postgres") * 5
STREAMS_OF_AN_OPERATOR = 2
EVENTS_BETWEEN_CUTS = 300

pytestmark = pytest.mark.full_size_figures


@dataclass
class Stream:
    """What one stream pushes through all cuts, and what was acknowledged."""

    operator: str
    events: list[mailbox_event_pb2.MailboxEvent]
    answers: list[Answered] = field(default_factory=list)
    cuts: int = 0
    fault: BaseException | None = None


@dataclass(frozen=True)
class Finished:
    """A run with all its kills.

    loaded: the last change number before any event.
    """

    parts: Parts
    model: Model
    streams: list[Stream]
    loaded: int
    seconds: float
    database: "psycopg.Connection[Any]"

    def firsts(self, operator: str) -> list[Answered]:
        """The first answer to each of the operator's events, those about one person in order."""
        streams = [stream for stream in self.streams if stream.operator == operator]
        return [each for stream in streams for each in first_answers(stream.answers)]


@pytest.fixture(scope="module")
def finished(full_size: bool) -> Iterator[Finished]:
    share, kills = (1, KILLS) if full_size else (10, KILLS[:3])
    persons = list(itertools.islice(synthetic_identifiers(), PERSONS // share))
    model = Model({each: _model_person(number) for number, each in enumerate(persons)})
    chance = random.Random(0)
    streams = [
        Stream(operator, make_events(chance, persons[number::STREAMS_OF_AN_OPERATOR], EVENTS // share // 4))
        for operator in (DIGIPOST, EBOKS)
        for number in range(STREAMS_OF_AN_OPERATOR)
    ]
    with open_folder() as folder, register_alone(folder) as parts, ExitStack() as stack:
        _load(parts, model)
        with connect(parts.database_url) as database:
            [(loaded,)] = database.execute("SELECT last_change_number FROM register").fetchall()
        began = time.monotonic()
        threads = [threading.Thread(target=_push, args=(parts, stream)) for stream in streams]
        for thread in threads:
            thread.start()
        _kill(parts, streams, kills)
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        parts.wait_until_serving()
        database = stack.enter_context(connect(parts.database_url))
        yield Finished(parts, model, streams, loaded, seconds, database)


def test_every_event_was_acknowledged_through_all_cuts(finished: Finished) -> None:
    assert [stream.fault for stream in finished.streams] == [None] * len(finished.streams)
    for stream in finished.streams:
        assert [each.event for each in stream.answers] == stream.events
        assert stream.cuts
    results = Counter(each.result for stream in finished.streams for each in stream.answers)
    count = sum(results.values())
    print(f"{count} events in {finished.seconds:.0f} s, {count / finished.seconds:.0f}/s")
    print(f"{sum(stream.cuts for stream in finished.streams)} cuts; {dict(results.most_common())}")
    resent = [each for op in (DIGIPOST, EBOKS) for each in finished.firsts(op) if each.duplicate]
    print(f"{len(resent)} were done, but acknowledged only when they were sent again")
    assert resent, "neither cuts nor kills hit anything"
    assert {"OUTDATED", "ALREADY_CHOSEN", "INVALID_EVENT", "EVENT_ID_REUSED"} <= set(results)


def test_the_register_is_what_the_answers_say_in_the_order_in_which_they_were_committed(
    finished: Finished,
) -> None:
    by_person: dict[str, dict[str, list[Answered]]] = defaultdict(lambda: defaultdict(list))
    for operator in (DIGIPOST, EBOKS):
        for each in finished.firsts(operator):
            by_person[each.event.identifier][operator].append(each)
    model = finished.model

    numbers = {identifier: explain(model, answers) for identifier, answers in by_person.items()}

    rows = finished.database.execute(
        "SELECT identifier, operator, address, chosen FROM person JOIN mailbox ON person_id = person.id"
    ).fetchall()
    assert sorted(rows) == sorted(
        (identifier, operator, address, operator == person.chosen)
        for identifier, person in model.persons.items()
        for operator, (address, _) in person.mailboxes.items()
    )
    rows = finished.database.execute("SELECT identifier, change_number FROM person").fetchall()
    assert all(number == numbers[identifier] for identifier, number in rows if number > finished.loaded)
    assert {number for number in numbers.values() if number} <= {number for _, number in rows}
    rows = finished.database.execute("SELECT operator, last_sequence FROM mailbox_sequence").fetchall()
    assert sorted(rows) == sorted((key[0], last) for key, last in model.sequences.items())


def test_every_acknowledged_event_counted_once_and_nothing_else_did(finished: Finished) -> None:
    firsts = [each for operator in (DIGIPOST, EBOKS) for each in finished.firsts(operator)]
    acknowledged = {(each.event.identifier, each.number) for each in firsts if each.result == "OK"}

    rows = finished.database.execute(
        "SELECT DISTINCT identifier, history.change_number FROM history JOIN person ON person.id = person_id"
        " WHERE history.change_number > %s",
        [finished.loaded],
    ).fetchall()
    assert set(rows) == acknowledged
    [(last,)] = finished.database.execute("SELECT last_change_number FROM register").fetchall()
    assert last == finished.loaded + len(acknowledged)
    [(kept,)] = finished.database.execute(
        "SELECT count(*) FROM request WHERE caller LIKE 'operator/%'"
    ).fetchall()
    assert kept == len(firsts)


def test_nothing_personal_was_written_anywhere(finished: Finished) -> None:
    files = dict(finished.parts.written())
    assert {"server.log", "server.jsonl", "postgresql.log"} <= set(files)
    some = random.Random(0).sample(list(finished.model.persons), 200)
    for name, text in files.items():
        assert not any(identifier in text for identifier in some), name
        assert ".mailbox#" not in text, name


def _model_person(number: int) -> ModelPerson:
    """Most may be given a choice; of the others there are some of each kind."""
    kind = number % 20
    return ModelPerson(active=kind != 0, reserved=kind == 1, has_contact=kind != 2)


def _load(parts: Parts, model: Model) -> None:
    persons = [
        admin_service_pb2.PersonToLoad(
            identifier=identifier,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=(
                person_pb2.RESERVATION_RESERVED if person.reserved else person_pb2.RESERVATION_NOT_RESERVED
            ),
        )
        for identifier, person in model.persons.items()
        if person.active
    ]
    for number, each in enumerate(persons):
        if each.reservation == person_pb2.RESERVATION_RESERVED:
            each.reservation_time.GetCurrentTime()
        if model.persons[each.identifier].has_contact:
            # One that nobody else has: sharing would be marked by a change of its own.
            each.email.value = f"pushed-{number}@example.com"
            each.email.updated_time.GetCurrentTime()
    with krr_client.connect(parts.register, "Development administrator/test") as channel:
        for start in range(0, len(persons), 1000):
            AdminServiceStub(channel).LoadPersons(
                admin_service_pb2.LoadPersonsRequest(
                    request_id=request_id(), persons=persons[start : start + 1000]
                )
            )


def _push(parts: Parts, stream: Stream) -> None:
    """Push all events; the connection is cut now and then."""
    wire = Wire(int(parts.register.rpartition(":")[2]))
    wire.plug_in()
    events = iter(stream.events)
    try:
        with krr_client.connect(
            f"127.0.0.1:{wire.port}", f"Development operator/{stream.operator}"
        ) as channel:
            for acknowledgement in push_events(channel, stream.events, give_up_after=120, longest_delay=1):
                stream.answers.append(answered(next(events), acknowledgement))
                if len(stream.answers) % EVENTS_BETWEEN_CUTS == 0:
                    wire.cut()
                    stream.cuts += 1
    except Exception as fault:
        stream.fault = fault
    finally:
        wire.tear_out()


def _kill(parts: Parts, streams: list[Stream], kills: tuple[str, ...]) -> None:
    """Kill one after the other while the streams go on."""
    total = sum(len(stream.events) for stream in streams)
    for number, part in enumerate(kills, 1):
        while sum(len(stream.answers) for stream in streams) < total * number / (len(kills) + 1):
            assert not any(stream.fault for stream in streams), [stream.fault for stream in streams]
            time.sleep(0.01)
        # A server that loses its database while it starts would have nobody to start it again.
        parts.wait_until_serving()
        parts.kill(part)
