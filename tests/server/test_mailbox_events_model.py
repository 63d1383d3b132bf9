"""Any events of two operators, in any groups: answered and applied as the plain model says."""

from itertools import islice
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from krr.v1 import admin_service_pb2, mailbox_event_pb2, person_pb2
from psycopg import Connection

from server import mailbox_events
from server.__main__ import Server
from server.domain.identifiers import PersonIdentifier
from tests.conftest import Register
from tests.mailbox_events import CHOICE, NO_CERTIFICATE, REMOVAL, Model, ModelPerson, content, event
from tests.people import DIGIPOST, EBOKS, request_id
from tests.people import synthetic_identifiers as people
from tests.server.pushing import pushed, result
from tests.server.rpcs import Rpcs
from tests.server.test_look_up import OLD, contact
from tests.server.valid_requests import AT_DIGIPOST, AT_EBOKS

CALLERS = {DIGIPOST: AT_DIGIPOST, EBOKS: AT_EBOKS}
# As they are loaded, in this order; the last one is nobody the register knows.
PERSONS = (
    ModelPerson(),
    ModelPerson(),
    ModelPerson(reserved=True),
    ModelPerson(has_contact=False),
    ModelPerson(active=False),
)
CONTENTS = (content("synthetic.a#1"), content("synthetic.b#1"))
BAD_CONTENTS = (content("short"), content("synthetic.a#1", NO_CERTIFICATE))
HELD = """
    SELECT identifier, operator, address, chosen, person.change_number
    FROM person JOIN mailbox ON person_id = person.id WHERE identifier = ANY(%s)
"""
SEQUENCES = "SELECT operator, person_key, last_sequence FROM mailbox_sequence WHERE person_key = ANY(%s)"


class Drawn(NamedTuple):
    """An event, but for the persons and ids of the example."""

    person: int
    id: int
    sequence: int
    operation: dict[str, Any]


def operations() -> st.SearchStrategy[dict[str, Any]]:
    sound = [{name: each} for name in ("create", "create_and_choose", "update") for each in CONTENTS]
    spoilt: list[dict[str, Any]] = [{"update": each} for each in BAD_CONTENTS]
    return st.sampled_from([*sound, {"choose": CHOICE}, {"delete": REMOVAL}, *sound, *spoilt, {}])


events = st.builds(
    Drawn,
    # Most often of the same person, or there would be nothing to order.
    st.sampled_from([0, 0, 0, 1, 2, 3, 4, -1]),
    st.integers(0, 30),
    st.integers(0, 12),
    operations(),
)
messages = st.lists(st.tuples(st.sampled_from([DIGIPOST, EBOKS]), st.lists(events, min_size=1, max_size=12)))
identifiers = people()


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many groups as may be of a few events."""
    monkeypatch.setattr(mailbox_events, "GROUP", 4)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=messages)
def test_events_are_answered_and_applied_as_one_after_another(
    small_groups: None,
    register: Register,
    rpcs: Rpcs,
    server: Server,
    database: "Connection[Any]",
    sent: list[tuple[str, list[Drawn]]],
) -> None:
    names = list(islice(identifiers, len(PERSONS)))
    model = Model({name: _copy(each) for name, each in zip(names, PERSONS, strict=True)})
    ids = [request_id() for _ in range(30)] + ["none"]
    _load(register, names)
    numbers: dict[str, int] = {}

    for operator, drawn in sent:
        message = [_event(each, names, ids) for each in drawn]
        answers = pushed(rpcs, message, CALLERS[operator])
        expected = [model.answer(operator, each) for each in message]
        assert [(result(answer), answer.duplicate) for answer in answers] == expected
        for each, answer in zip(message, answers, strict=True):
            if answer.change_number and not answer.duplicate:
                assert answer.change_number >= numbers.get(each.identifier, 0)
                numbers[each.identifier] = answer.change_number

    held = database.execute(HELD, [names]).fetchall()
    assert {row[:4] for row in held} == {
        (name, operator, address, operator == person.chosen)
        for name, person in model.persons.items()
        for operator, (address, _) in person.mailboxes.items()
    }
    assert all(row[4] == numbers[row[0]] for row in held)
    keys = {server._store.person_key(PersonIdentifier(name)): name for name in names}
    kept = database.execute(SEQUENCES, [list(keys)]).fetchall()
    assert {(operator, keys[key]): last for operator, key, last in kept} == model.sequences


def _copy(person: ModelPerson) -> ModelPerson:
    return ModelPerson(person.active, person.reserved, person.has_contact)


def _event(drawn: Drawn, names: list[str], ids: list[str]) -> mailbox_event_pb2.MailboxEvent:
    name = names[drawn.person] if drawn.person >= 0 else "nobody"
    return event(name, drawn.sequence, ids[drawn.id], **drawn.operation)


def _load(register: Register, names: list[str]) -> None:
    persons = [
        admin_service_pb2.PersonToLoad(
            identifier=name,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=(
                person_pb2.RESERVATION_RESERVED if person.reserved else person_pb2.RESERVATION_NOT_RESERVED
            ),
            reservation_time=OLD if person.reserved else None,
            # One that nobody else has: sharing would be marked by a change of its own.
            email=contact(f"{request_id()}@example.com", OLD) if person.has_contact else None,
        )
        for name, person in zip(names, PERSONS, strict=True)
        if person.active
    ]
    register.as_administrator().LoadPersons(
        admin_service_pb2.LoadPersonsRequest(request_id=request_id(), persons=persons)
    )
