"""kill -9 of every part in turn, under load: nothing acknowledged is lost, nothing is done twice."""

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import krr_client
import psycopg
import pytest
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import mailbox_operator_service_pb2 as operator
from krr.v1 import person_pb2, register_service_pb2
from krr_client import RegisterError
from sqlalchemy import make_url

from tests.conftest import Register
from tests.e2e.model import OPERATORS, ModelPerson
from tests.e2e.parts import ADAPTERS, Parts, all_parts
from tests.open_folder import open_folder
from tests.people import DIGIPOST, EBOKS, request_id, synthetic_identifiers

PERSONS = list(itertools.islice(synthetic_identifiers(), 50))
CLIENTS = 8
KILLS = ("server", "postgres", *ADAPTERS) * 2 + ("server", "postgres", "sms")
SECONDS_BETWEEN_KILLS = 2.0
ADDRESSES = {DIGIPOST: "synthetic.person#{}", EBOKS: "eboks-{}"}


@dataclass
class Run:
    """What the clients and the reader saw."""

    parts: Parts
    # (person, change number) → what was acknowledged with it: one change, and perhaps reports of
    # a mailbox that stood there already, which are answered with the number of the last change
    changes: dict[tuple[str, int], set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    written: threading.Event = field(default_factory=threading.Event)
    faults: list[str] = field(default_factory=list)
    acknowledged: int = 0
    unanswered: int = 0


@pytest.fixture(scope="module")
def finished() -> Any:
    """A run with all its kills, everything drained, and the reader's copy of the feed."""
    with open_folder() as folder, all_parts(folder) as parts:
        _open_accounts(parts)
        run = Run(parts)
        copy: dict[str, person_pb2.Person] = {}
        clients = [threading.Thread(target=_client, args=(run, seed)) for seed in range(CLIENTS)]
        reader = threading.Thread(target=_read_feed, args=(run, copy))
        for thread in (*clients, reader):
            thread.start()
        for part in KILLS:
            time.sleep(SECONDS_BETWEEN_KILLS)
            # A server that loses its database while it starts would have nobody to start it again.
            parts.wait_until_serving()
            parts.kill(part)
        time.sleep(SECONDS_BETWEEN_KILLS)
        run.stop.set()
        for thread in clients:
            thread.join()
        run.written.set()
        parts.wait_until_serving()
        _wait_until_drained(parts)
        reader.join()
        yield run, copy


def test_every_acknowledged_write_is_there(finished: tuple[Run, Any]) -> None:
    run, _ = finished
    assert not run.faults
    assert run.acknowledged > 200
    assert run.unanswered > 0, "the kills hit nothing"
    persons = _all_persons(run.parts)
    for identifier, model in _models(run).items():
        person = persons[identifier]
        assert (person.status == person_pb2.PERSON_STATUS_ACTIVE) == model.active
        assert (person.reservation == person_pb2.RESERVATION_RESERVED) == model.reserved
        assert (person.email.value, person.mobile.value) == (model.email, model.mobile)
        assert person.mailbox.operator_organisation_number == model.receives_public_mail()
    rows = _rows(run.parts, "SELECT identifier, change_number FROM person")
    for identifier, last in rows:
        assert last == max(number for person, number in run.changes if person == identifier)


def test_no_write_took_effect_twice_or_unacknowledged(finished: tuple[Run, Any]) -> None:
    run, _ = finished

    # Every request was repeated until it was answered, so whatever happened was acknowledged.
    happened = _rows(
        run.parts,
        "SELECT DISTINCT identifier, history.change_number"
        " FROM history JOIN person ON person.id = history.person_id",
    )

    assert set(happened) == set(run.changes)


def test_at_most_one_mailbox_is_chosen(finished: tuple[Run, Any]) -> None:
    run, _ = finished

    chosen = _rows(run.parts, "SELECT person_id, count(*) FROM mailbox WHERE chosen GROUP BY person_id")

    assert chosen
    assert all(count == 1 for _, count in chosen)


def test_a_reader_of_the_feed_throughout_has_the_table(
    finished: tuple[Run, dict[str, person_pb2.Person]],
) -> None:
    run, copy = finished

    assert copy == _all_persons(run.parts)


def test_each_change_of_operator_has_one_message_that_reached_the_gateway(
    finished: tuple[Run, Any],
) -> None:
    run, _ = finished
    _, expected = _replay(run)
    rows = _rows(
        run.parts, "SELECT change_number, id::text, state FROM message WHERE kind = 'MAILBOX_CHOSEN'"
    )
    assert sorted(number for number, _, _ in rows) == sorted(expected)
    everything = {reference for (reference,) in _rows(run.parts, "SELECT id::text FROM message")}
    sms = httpx.get(f"{run.parts.suppliers['link']}/sandbox/messages").json()
    received = Counter([message["reference_id"] for message in sms] + run.parts.mails.references)

    reached = {reference for _, reference, state in rows if state not in ("SUPPRESSED", "SUPERSEDED")}

    assert reached
    # Mail servers send no receipts of what arrives.
    assert all(state in ("DELIVERED", "SENT", "SUPPRESSED", "SUPERSEDED") for _, _, state in rows)
    assert reached <= set(received)
    assert set(received) <= everything
    repeats = sum(received.values()) - len(received)
    assert repeats <= len(KILLS), f"{repeats} repeats"


def test_both_operators_sides_equal_the_register(finished: tuple[Run, Any]) -> None:
    run, _ = finished
    models = _models(run)
    for operator_number, name in ((DIGIPOST, "digipost"), (EBOKS, "eboks")):
        accounts = httpx.get(f"{run.parts.suppliers[name]}/sandbox/accounts").json()
        switched_on = {account["identifier"] for account in accounts if account["receives_public_mail"]}

        assert switched_on == {
            each for each in models if models[each].receives_public_mail() == operator_number
        }


def test_nothing_personal_was_written_anywhere(finished: tuple[Run, Any]) -> None:
    run, _ = finished
    files = dict(run.parts.written())
    assert {"server.log", "sms.log", "server.jsonl", "adapter-digipost.jsonl", "postgresql.log"} <= set(files)
    for name, text in files.items():
        for index, identifier in enumerate(PERSONS):
            assert identifier not in text, name
            assert f"kill-test-{index}" not in text, name
            assert _mobile(index)[3:] not in text, name
            assert not any(template.format(index) in text for template in ADDRESSES.values()), name


def _client(run: Run, seed: int) -> None:
    """Act at random until told to stop; repeat each request until it is answered."""
    chance = random.Random(seed)
    with ExitStack() as stack:
        channels: dict[str, grpc.Channel] = {}

        def connect(caller: str) -> grpc.Channel:
            if caller not in channels:
                channels[caller] = stack.enter_context(
                    krr_client.connect(run.parts.register, f"Development {caller}", timeout=2)
                )
            return channels[caller]

        register = Register(connect)
        while not run.stop.is_set():
            index = chance.randrange(len(PERSONS))
            [verb] = chance.choices(list(_VERBS), weights=_WEIGHTS)
            try:
                _act(run, register, index, verb, chance.choice(OPERATORS))
            except Exception as fault:
                run.faults.append(f"{verb}: {fault!r}")
                return


def _act(run: Run, register: Register, index: int, verb: str, operator_number: str) -> None:
    call, argument = _VERBS[verb](register, index, operator_number)
    give_up = time.monotonic() + 60
    while True:
        try:
            answer = call().answer
        except RegisterError as error:
            if error.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) or (
                error.reason == "CONFLICT"
            ):
                assert time.monotonic() < give_up, "the register stays away"
                run.unanswered += 1
                time.sleep(0.05)
                continue
            assert error.reason in _EXPECTED_REFUSALS, error.reason
            return
        break
    changed = answer.result in (person_pb2.WRITE_RESULT_CHANGED, operator.MAILBOX_RESULT_OK)
    with run.lock:
        run.acknowledged += 1
        if changed:
            run.changes[PERSONS[index], answer.change_number].add((verb, argument))


_EXPECTED_REFUSALS = ("PERSON_NOT_FOUND", "ALREADY_REGISTERED", "RESERVED", "NO_MAILBOX", "CONTACT_MISSING")


def _mobile(index: int) -> str:
    return f"+479{index:02}55{index:03}"


def _register(register: Register, index: int, _: str) -> tuple[Callable[[], Any], str]:
    request = citizen.RegisterPersonRequest(
        request_id=request_id(), identifier=PERSONS[index], mobile=_mobile(index)
    )
    return lambda: register.as_log_in_service().RegisterPerson(request), _mobile(index)


def _update(register: Register, index: int, kind: str, value: str) -> tuple[Callable[[], Any], str]:
    request = citizen.UpdateContactRequest(request_id=request_id(), identifier=PERSONS[index])
    setattr(request, kind, value)
    request.update_mask.paths.append(kind)
    return lambda: register.as_citizen(PERSONS[index]).UpdateContact(request), value


def _citizen(method: str, request_type: Any) -> Callable[[Register, int, str], tuple[Callable[[], Any], str]]:
    def prepare(register: Register, index: int, _: str) -> tuple[Callable[[], Any], str]:
        request = request_type(request_id=request_id(), identifier=PERSONS[index])
        return lambda: getattr(register.as_citizen(PERSONS[index]), method)(request), ""

    return prepare


def _switch(register: Register, index: int, to: str) -> tuple[Callable[[], Any], str]:
    request = citizen.ChooseMailboxRequest(
        request_id=request_id(), identifier=PERSONS[index], operator_organisation_number=to
    )
    return lambda: register.as_citizen(PERSONS[index]).ChooseMailbox(request), to


def _operator(
    method: str, request_type: Any
) -> Callable[[Register, int, str], tuple[Callable[[], Any], str]]:
    def prepare(register: Register, index: int, of: str) -> tuple[Callable[[], Any], str]:
        request = request_type(event_id=request_id(), identifier=PERSONS[index])
        if "address" in request.DESCRIPTOR.fields_by_name:
            request.address = ADDRESSES[of].format(index)
        return lambda: getattr(register.as_operator(of), method)(request), of

    return prepare


_VERBS: dict[str, Callable[[Register, int, str], tuple[Callable[[], Any], str]]] = {
    "register": _register,
    "update_email": lambda register, index, _: _update(
        register, index, "email", f"kill-test-{index}@example.com"
    ),
    "update_mobile": lambda register, index, _: _update(register, index, "mobile", _mobile(index)),
    "reserve": _citizen("Reserve", citizen.ReserveRequest),
    "cancel_reservation": _citizen("CancelReservation", citizen.CancelReservationRequest),
    "delete": _citizen("DeletePerson", citizen.DeletePersonRequest),
    "switch": _switch,
    "create": _operator("CreateMailbox", operator.CreateMailboxRequest),
    "create_and_choose": _operator("CreateAndChooseMailbox", operator.CreateAndChooseMailboxRequest),
    "choose": _operator("ChooseMailbox", operator.MailboxOperatorServiceChooseMailboxRequest),
    "delete_mailbox": _operator("DeleteMailbox", operator.DeleteMailboxRequest),
}
# Choosing most of all, and seldom what takes away what can be chosen.
_WEIGHTS = (3, 1, 2, 0.5, 2, 0.5, 6, 4, 4, 2, 0.5)


def _read_feed(run: Run, copy: dict[str, person_pb2.Person]) -> None:
    """Follow the feed from the start, through every cut, until nothing more can come."""
    cursor = ""
    chance = random.Random(0)
    with krr_client.connect(run.parts.register, "Development public-body/991825827", timeout=2) as channel:
        register = Register(lambda _: channel).as_public_body()
        while True:
            last = run.written.is_set()
            request = register_service_pb2.ListChangesRequest(
                after_cursor=cursor, page_size=chance.randint(1, 20)
            )
            try:
                page = register.ListChanges(request)
            except RegisterError as error:
                if error.status not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    run.faults.append(f"feed: {error!r}")
                    return
                time.sleep(0.05)
                continue
            for person in page.persons:
                known = copy.get(person.identifier)
                if known and known.change_number >= person.change_number:
                    run.faults.append(f"feed went back to {person.change_number}")
                copy[person.identifier] = person
            cursor = page.cursor
            if page.caught_up:
                if last:
                    return
                time.sleep(0.02)


def _open_accounts(parts: Parts) -> None:
    for number, name in ((DIGIPOST, "digipost"), (EBOKS, "eboks")):
        accounts = [
            {"identifier": each, "address": ADDRESSES[number].format(i), "receives_public_mail": False}
            for i, each in enumerate(PERSONS)
        ]
        httpx.put(f"{parts.suppliers[name]}/sandbox/accounts", json=accounts).raise_for_status()


_UNFINISHED = """
    SELECT channel, state, failed_attempts, reason_code FROM message
    WHERE state = 'QUEUED' OR state = 'SENT' AND channel = 'SMS'
"""


def _wait_until_drained(parts: Parts) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        left = _rows(parts, "SELECT operator, failed_attempts, last_error_code, refused FROM delivery")
        left += _rows(parts, _UNFINISHED)
        if not left:
            return
        time.sleep(0.2)
    raise AssertionError(f"never drained: {left}")


def _models(run: Run) -> dict[str, ModelPerson]:
    return _replay(run)[0]


def _replay(run: Run) -> tuple[dict[str, ModelPerson], set[int]]:
    """The persons after all acknowledged changes, and the numbers that chose an operator anew."""
    models: dict[str, ModelPerson] = defaultdict(ModelPerson)
    choices = set()
    for (identifier, number), verbs in sorted(run.changes.items(), key=lambda item: item[0][1]):
        for verb, argument in sorted(verbs):
            if models[identifier].apply(verb, argument):
                choices.add(number)
    return models, choices


def _all_persons(parts: Parts) -> dict[str, person_pb2.Person]:
    with krr_client.connect(parts.register, "Development public-body/991825827") as channel:
        page = (
            Register(lambda _: channel)
            .as_public_body()
            .ListChanges(register_service_pb2.ListChangesRequest())
        )
    assert page.caught_up
    return {person.identifier: person for person in page.persons}


def _rows(parts: Parts, query: str) -> list[tuple[Any, ...]]:
    url = make_url(parts.database_url)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as connection:
        return connection.execute(query.encode()).fetchall()
