"""How many codes are sent and how many tries they bear, also where many ask and guess at once."""

import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from krr.v1 import admin_service_pb2, person_pb2
from krr.v1 import citizen_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from server.__main__ import Server
from tests.conftest import Register
from tests.people import OLA, register_request, request_id, synthetic_identifiers
from tests.server.codes import (
    A_MINUTE,
    EMAIL,
    MOBILE,
    Kind,
    let_pass,
    other_than,
    read_code,
    send,
    too_soon,
    verify,
    why_not,
)
from tests.server.database import contents
from tests.server.messages import lease
from tests.server.rpcs import Rpcs
from tests.server.test_citizen_writes import update
from tests.store.steps import together

A_DAY = timedelta(hours=24)
GUESSES, PERSONS = 100_000, 1_000


@pytest.fixture
def ola(register: Register) -> None:
    """Ola is registered with ola@example.com and +4791234567."""
    register.as_log_in_service().RegisterPerson(register_request(OLA))


def enter(register: Register, identifiers: Sequence[str], **values: str) -> None:
    for identifier in identifiers:
        register.as_log_in_service().RegisterPerson(register_request(identifier, **values))


@pytest.mark.usefixtures("ola")
def test_within_a_minute_no_second_code_goes_to_a_contact_point_and_the_caller_hears_at_once(
    register: Register, database: "Connection[Any]", statements: list[str]
) -> None:
    send(register)
    before = contents(database, ("verification_code", "message", "request"))
    statements.clear()

    assert 0 < too_soon(register) <= 60

    # A client that tried again by itself would have asked more than once.
    assert set(Counter(statements).values()) == {1}
    assert contents(database, ("verification_code", "message", "request")) == before
    send(register, EMAIL)
    let_pass(database, A_MINUTE)
    send(register)


@pytest.mark.usefixtures("ola")
def test_a_request_that_came_too_soon_is_judged_anew(register: Register, database: "Connection[Any]") -> None:
    send(register)
    same = request_id()
    with pytest.raises(RegisterError):
        send(register, request_id=same)
    let_pass(database, A_MINUTE)
    assert not send(register, request_id=same).duplicate


@pytest.mark.usefixtures("ola")
@pytest.mark.parametrize("kind", [MOBILE, EMAIL])
def test_five_codes_a_day_go_to_a_contact_point_also_to_another_value_of_it(
    register: Register, database: "Connection[Any]", kind: Kind
) -> None:
    values = {"email": "ola@example.net"} if kind == EMAIL else {"mobile": "+4741234567"}
    for number in range(5):
        if number == 3:
            update(register, *values, **values)
        send(register, kind)
        let_pass(database, A_MINUTE)

    wait = too_soon(register, kind)

    assert timedelta(hours=23) < timedelta(seconds=wait) < A_DAY
    let_pass(database, timedelta(seconds=wait))
    send(register, kind)


@pytest.mark.parametrize(
    ("kind", "spellings"),
    [
        (MOBILE, [{"mobile": "+4791234567"}] * 6),
        (EMAIL, [{"email": f"{name}@example.com"} for name in ("ola", "Ola", "OLA", "oLa", "olA", "ola")]),
    ],
)
def test_five_codes_a_day_go_to_an_address_or_number_whoever_asks(
    register: Register, database: "Connection[Any]", kind: Kind, spellings: list[dict[str, str]]
) -> None:
    *five, sixth = itertools.islice(synthetic_identifiers(), 6)
    for identifier, spelling in zip((*five, sixth), spellings, strict=True):
        enter(register, [identifier], **spelling)
    for identifier in five:
        send(register, kind, identifier)

    assert timedelta(hours=23) < timedelta(seconds=too_soon(register, kind, sixth)) <= A_DAY

    let_pass(database, A_DAY)
    send(register, kind, sixth)


def test_five_codes_a_day_go_to_a_number_also_where_all_ask_at_once(register: Register) -> None:
    persons = list(itertools.islice(synthetic_identifiers(), 8))
    enter(register, persons)

    def ask(identifier: str) -> str:
        try:
            send(register, MOBILE, identifier)
        except RegisterError as refused:
            return refused.reason
        return "SENT"

    answers = together(*(partial(ask, each) for each in persons))

    assert Counter(answers) == {"SENT": 5, "CODE_TOO_SOON": 3}
    assert len(lease(register, "sms")) == 5


@pytest.mark.usefixtures("ola")
def test_twenty_wrong_tries_a_day_over_all_codes_end_the_trying_and_the_sending(
    register: Register, database: "Connection[Any]"
) -> None:
    for kind, channel in [(MOBILE, "sms"), (EMAIL, "email")] * 2:
        send(register, kind)
        code = read_code(register, channel)
        assert [why_not(register, other_than(code), kind) for _ in range(5)] == ["CODE_WRONG"] * 5
        let_pass(database, A_MINUTE)

    waits = [timedelta(seconds=too_soon(register, kind)) for kind in (MOBILE, EMAIL)]
    # The first code leaves with the last try that it could bear.
    assert A_DAY < min(waits) <= max(waits) < A_DAY + timedelta(minutes=10)
    let_pass(database, min(waits) - timedelta(seconds=120))
    assert too_soon(register) <= 120
    let_pass(database, timedelta(seconds=120))
    send(register)
    assert verify(register, read_code(register)).change_number == 2


@pytest.mark.usefixtures("ola")
def test_the_twentieth_wrong_try_ends_a_code_that_bears_more(
    register: Register, database: "Connection[Any]"
) -> None:
    send(register, EMAIL)
    database.execute("UPDATE verification_code SET wrong_tries = 17")
    send(register)
    code = read_code(register)
    assert [why_not(register, other_than(code)) for _ in range(4)] == [*["CODE_WRONG"] * 3, "CODE_EXPIRED"]
    assert why_not(register, code) == "CODE_EXPIRED"


@pytest.mark.usefixtures("ola")
def test_who_guesses_from_many_places_at_once_has_five_tries(
    register: Register, database: "Connection[Any]"
) -> None:
    send(register)
    code = read_code(register)

    def guess() -> list[str]:
        return [why_not(register, other_than(code)) for _ in range(6)]

    answers = Counter(answer for found in together(*[guess] * 4) for answer in found)

    assert answers == {"CODE_WRONG": 5, "CODE_EXPIRED": 19}
    assert why_not(register, code) == "CODE_EXPIRED"


@pytest.mark.usefixtures("ola")
def test_the_right_code_from_many_places_at_once_proves_once(register: Register) -> None:
    send(register)
    code = read_code(register)

    def prove() -> str:
        try:
            verify(register, code)
        except RegisterError as refused:
            return refused.reason
        return "PROVED"

    assert Counter(together(*[prove] * 4)) == {"PROVED": 1, "CODE_EXPIRED": 3}


@pytest.mark.usefixtures("ola")
def test_a_try_runs_the_same_statements_whichever_digit_is_wrong_and_when_all_are_right_too_late(
    register: Register, database: "Connection[Any]", statements: list[str]
) -> None:
    send(register)
    code = read_code(register)

    def run_for(given: str, reason: str) -> list[str]:
        statements.clear()
        assert why_not(register, given) == reason
        return list(statements)

    first, last = (run_for(other_than(code, place), "CODE_WRONG") for place in (0, -1))
    assert first == last
    let_pass(database, timedelta(minutes=10))
    wrong, right = run_for(other_than(code), "CODE_EXPIRED"), run_for(code, "CODE_EXPIRED")
    assert wrong == right
    # Up to where the answer itself differs.
    assert right == first[: len(right)]
    assert len(right) >= 4


@pytest.mark.full_size_figures
def test_nobody_gets_through_by_guessing(
    server: Server, register: Register, database: "Connection[Any]", full_size: bool
) -> None:
    share = 1 if full_size else 50
    persons = list(itertools.islice(synthetic_identifiers(), PERSONS // share))
    rounds = [(kind, channel) for kind, channel in ((MOBILE, "sms"), (EMAIL, "email")) for _ in range(3)]
    of_a_round = GUESSES // PERSONS // len(rounds)
    load(register, persons)
    chance = random.Random(4711)
    answers: Counter[str] = Counter()
    right_too_late = 0
    rpcs = Rpcs(f"127.0.0.1:{server.port}")

    def call(name: str, identifier: str, kind: Kind, **fields: str) -> str:
        request = getattr(pb, f"{name}Request")(
            request_id=request_id(), identifier=identifier, contact_kind=kind, **fields
        )
        outcome = rpcs.call(f"CitizenService/{name}", request, f"citizen/{identifier}", timeout=60)
        return "OK" if outcome.code is grpc.StatusCode.OK else outcome.reason

    def guess(some: Sequence[str], kind: Kind) -> Counter[str]:
        found: Counter[str] = Counter()
        for identifier in some:
            found[f"{call('SendVerificationCode', identifier, kind)} sending"] += 1
            for _ in range(of_a_round):
                code = f"{chance.randrange(1_000_000):06d}"
                found[call("VerifyContact", identifier, kind, code=code)] += 1
        return found

    half = len(persons) // 2
    for kind, channel in rounds:
        parts = (partial(guess, some, kind) for some in (persons[:half], persons[half:]))
        answers = sum(together(*parts), start=answers)
        # Of a hundred persons, however many there are.
        for message in lease(register, channel):
            owner = persons[int(re.sub(r"@.*|\+479|p", "", message.recipient))]
            assert call("VerifyContact", owner, kind, code=message.verification_code) == "CODE_EXPIRED"
            right_too_late += 1
        let_pass(database, A_MINUTE)
    rpcs.close()

    print(f"{answers.total()} calls for {len(persons)} persons: {dict(answers)}")
    hits, tries = answers["OK"], answers["OK"] + answers["CODE_WRONG"]
    # As many tries as one person has in a day; 1,000 persons have 0.02 hits in all by chance.
    assert 20 * (len(persons) - hits) <= tries <= 20 * len(persons) + hits
    assert hits <= 2
    assert right_too_late >= 4 * min(100, len(persons))
    assert answers["CODE_TOO_SOON sending"] >= len(persons)


def load(register: Register, identifiers: Sequence[str]) -> None:
    """Persons with an e-mail and a mobile of their own."""
    persons = []
    for number, identifier in enumerate(identifiers):
        person = admin_service_pb2.PersonToLoad(
            identifier=identifier,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=person_pb2.RESERVATION_NOT_RESERVED,
        )
        for point, value in ((person.email, f"p{number}@example.com"), (person.mobile, f"+479{number:07d}")):
            point.value = value
            point.updated_time.GetCurrentTime()
        persons.append(person)
    register.as_administrator().LoadPersons(
        admin_service_pb2.LoadPersonsRequest(request_id=request_id(), persons=persons)
    )
