"""Choices while the SMS adapter, the server and PostgreSQL are killed: each is told once in the record.

On the wire a message may go twice, where its adapter was killed after the gateway took it and before
the register knew.
"""

import itertools
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

import krr_client
import psycopg
import pytest
from krr.v1 import admin_service_pb2, mailbox_event_pb2, person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr_client.push_events import push_events

from tests.e2e.parts import Parts, all_parts
from tests.mailbox_events import CHOICE, event
from tests.open_folder import open_folder
from tests.people import DIGIPOST, request_id, synthetic_identifiers
from tests.server.database import connect

CHOICES = 20_000
KILLS = ("sms", "sms", "server", "sms", "postgres", "sms", "sms", "sms") * 3
DRAINED_SECONDS = 900

pytestmark = pytest.mark.full_size_figures


@dataclass(frozen=True)
class Finished:
    """A run that has drained.

    messages: reference, state and number of the change, of each message of the register.
    received: how often the gateway got each reference.
    in_hand: of how many messages the SMS adapter had a lease when it was killed, over all kills.
    """

    choices: Sequence[int]
    messages: Sequence[tuple[str, str, int]]
    received: Counter[str]
    in_hand: int
    seconds: float
    parts: Parts


@pytest.fixture(scope="module")
def finished(full_size: bool) -> Iterator[Finished]:
    share, kills = (1, KILLS) if full_size else (10, KILLS[:8])
    persons = list(itertools.islice(synthetic_identifiers(), CHOICES // share))
    with open_folder() as folder, all_parts(folder, sms_concurrency=8) as parts:
        _load(parts, persons)
        began = time.monotonic()
        numbers: list[int] = []
        pushing = threading.Thread(target=_choose, args=(parts, persons, numbers))
        pushing.start()
        in_hand = _kill(parts, len(persons), kills)
        pushing.join()
        _wait_until_told(parts, len(persons), "DELIVERED", "FAILED", "SUPPRESSED", "SUPERSEDED")
        seconds = time.monotonic() - began
        with connect(parts.database_url) as database:
            messages = database.execute("SELECT id::text, state, change_number FROM message").fetchall()
        with closing(sqlite3.connect(folder / "link" / "messages.sqlite")) as phone:
            received = Counter(row[0] for row in phone.execute("SELECT reference_id FROM messages"))
        yield Finished(numbers, messages, received, in_hand, seconds, parts)


def test_every_choice_was_told_by_exactly_one_message_that_arrived(finished: Finished) -> None:
    count = len(finished.choices)
    print(f"{count} choices told after {finished.seconds:.0f} s, {count / finished.seconds:.0f} a second")
    assert sorted(number for _, _, number in finished.messages) == sorted(finished.choices)
    assert Counter(state for _, state, _ in finished.messages) == {"DELIVERED": len(finished.choices)}


def test_the_gateway_got_every_message_and_no_more_twice_than_were_in_hand_at_kills(
    finished: Finished,
) -> None:
    assert set(finished.received) == {reference for reference, _, _ in finished.messages}
    repeated = sum(finished.received.values()) - len(finished.received)
    print(f"{finished.in_hand} messages were in hand at kills; {repeated} went twice")
    assert repeated <= finished.in_hand


def test_no_phone_number_was_written_anywhere(finished: Finished) -> None:
    files = dict(finished.parts.written())
    assert {"server.log", "sms.log", "postgresql.log"} <= set(files)
    for name, text in files.items():
        assert "+479" not in text, name


def _load(parts: Parts, identifiers: Sequence[str]) -> None:
    """Persons with a mailbox that is not chosen, and a mobile of their own."""
    persons = []
    for number, identifier in enumerate(identifiers):
        person = admin_service_pb2.PersonToLoad(
            identifier=identifier,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=person_pb2.RESERVATION_NOT_RESERVED,
            mailboxes=[
                person_pb2.Mailbox(operator_organisation_number=DIGIPOST, address=f"synthetic#{number:08d}")
            ],
        )
        person.mobile.value = f"+479{number:07d}"
        person.mobile.updated_time.GetCurrentTime()
        persons.append(person)
    with krr_client.connect(parts.register, "Development administrator/test") as channel:
        for start in range(0, len(persons), 1000):
            AdminServiceStub(channel).LoadPersons(
                admin_service_pb2.LoadPersonsRequest(
                    request_id=request_id(), persons=persons[start : start + 1000]
                )
            )


def _choose(parts: Parts, persons: Sequence[str], numbers: list[int]) -> None:
    """Have the operator report each person's choice; the change numbers."""
    events: list[mailbox_event_pb2.MailboxEvent] = [event(each, choose=CHOICE) for each in persons]
    with krr_client.connect(parts.register, f"Development operator/{DIGIPOST}") as channel:
        for acknowledgement in push_events(channel, events, give_up_after=120, longest_delay=1):
            numbers.append(acknowledgement.answer.change_number)


def _kill(parts: Parts, choices: int, kills: Sequence[str]) -> int:
    """Kill one after the other while messages go out; of how many messages the adapter had a lease."""
    in_hand = 0
    for number, part in enumerate(kills, 1):
        _wait_until_told(parts, choices * number // (len(kills) + 1), "SENT", "DELIVERED")
        # A server that loses its database while it starts would have nobody to start it again.
        parts.wait_until_serving()
        parts.kill(part)
        if part == "sms":
            with connect(parts.database_url) as database:
                [(leased,)] = database.execute(
                    "SELECT count(*) FROM message WHERE leased_until_time > now()"
                ).fetchall()
            in_hand += leased
    return in_hand


def _wait_until_told(parts: Parts, count: int, *states: str) -> None:
    """Return when so many messages stand in one of the states."""
    ends = time.monotonic() + DRAINED_SECONDS
    told = -1
    while told < count:
        assert time.monotonic() < ends, "messages do not go out"
        time.sleep(0.1)
        with suppress(psycopg.OperationalError), connect(parts.database_url) as database:
            [(told,)] = database.execute(
                "SELECT count(*) FROM message WHERE state = ANY(%s)", [list(states)]
            ).fetchall()
