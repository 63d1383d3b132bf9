"""MailboxOperatorService: every result, and what an operator can never do."""

from itertools import islice
from typing import Any

import pytest
from krr.v1 import citizen_service_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, OLA, PUBLIC_BODY, request_id
from tests.people import synthetic_identifiers as people
from tests.server.database import contents
from tests.server.test_citizen_writes import BOTH, own_entry
from tests.server.test_look_up import EMAIL, MAILBOX, RESERVED, load
from tests.server.valid_requests import certificate

ADDRESS = {"address": "ola.nordmann#9YDT"}
OTHER_ADDRESS = {"address": "ola.nordmann#0AAA"}
REQUESTS: dict[str, Any] = {
    "CreateMailbox": pb.CreateMailboxRequest,
    "ChooseMailbox": pb.MailboxOperatorServiceChooseMailboxRequest,
    "CreateAndChooseMailbox": pb.CreateAndChooseMailboxRequest,
    "DeleteMailbox": pb.DeleteMailboxRequest,
}
CREATES = ("CreateMailbox", "CreateAndChooseMailbox")
UNCHOSEN = {"mailboxes": MAILBOX["mailboxes"]}
WITH_EMAIL = {"email": EMAIL}


def push(
    register: Register, name: str, operator: str = DIGIPOST, identifier: str = OLA, **fields: Any
) -> pb.MailboxAnswer:
    """Push the event; a fresh event_id unless given."""
    if name in CREATES:
        fields = ADDRESS | fields
    request = REQUESTS[name](**{"event_id": request_id(), "identifier": identifier} | fields)
    answer: pb.MailboxAnswer = getattr(register.as_operator(operator), name)(request).answer
    return answer


def name_of(answer: pb.MailboxAnswer) -> str:
    return pb.MailboxResult.Name(answer.result).removeprefix("MAILBOX_RESULT_")


def may_choose(register: Register, operator: str = DIGIPOST, identifier: str = OLA) -> str:
    request = pb.MayChooseMailboxRequest(identifier=identifier)
    answer = register.as_operator(operator).MayChooseMailbox(request)
    return pb.MailboxResult.Name(answer.result).removeprefix("MAILBOX_RESULT_")


@pytest.mark.parametrize(
    ("loaded", "results"),
    [
        # Of MayChoose, Create, Choose, CreateAndChoose and Delete at Digipost.
        (WITH_EMAIL, "MAY_CHOOSE OK NO_MAILBOX OK NO_MAILBOX"),
        (WITH_EMAIL | UNCHOSEN, "MAY_CHOOSE OK OK OK OK"),
        (WITH_EMAIL | MAILBOX, "ALREADY_CHOSEN OK ALREADY_CHOSEN ALREADY_CHOSEN OK"),
        (
            WITH_EMAIL | BOTH | {"chosen_operator_organisation_number": EBOKS},
            "ALREADY_CHOSEN OK ALREADY_CHOSEN ALREADY_CHOSEN OK",
        ),
        (WITH_EMAIL | RESERVED, "RESERVED OK RESERVED RESERVED NO_MAILBOX"),
        (WITH_EMAIL | RESERVED | MAILBOX, "RESERVED OK RESERVED RESERVED OK"),
        ({}, "CONTACT_MISSING OK NO_MAILBOX CONTACT_MISSING NO_MAILBOX"),
        (UNCHOSEN, "CONTACT_MISSING OK CONTACT_MISSING CONTACT_MISSING OK"),
        (None, " ".join(["PERSON_NOT_FOUND"] * 5)),
    ],
)
def test_each_state_of_a_person_gives_each_verb_its_result(
    register: Register, database: "Connection[Any]", loaded: dict[str, Any] | None, results: str
) -> None:
    # A person for each verb, in the same state.
    persons = (OLA, *islice(people(), 4))
    if loaded is not None:
        for identifier in persons:
            load(register, identifier, **loaded)
    for verb, identifier, expected in zip(
        ("MayChooseMailbox", *REQUESTS), persons, results.split(), strict=True
    ):
        before = contents(database)
        if verb == "MayChooseMailbox":
            assert may_choose(register) == expected
        else:
            answer = push(register, verb, identifier=identifier)
            assert name_of(answer) == expected, verb
            assert bool(answer.change_number) == bool(answer.freshness_token) == (expected == "OK")
        if expected != "OK":
            assert contents(database) == before, verb


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("CreateMailbox", OTHER_ADDRESS, "MAILBOX_EXISTS"),
        ("CreateMailbox", {"certificate": certificate()}, "MAILBOX_EXISTS"),
        ("CreateAndChooseMailbox", OTHER_ADDRESS, "MAILBOX_EXISTS"),
        ("CreateMailbox", {"address": "short#1"}, "INVALID_MAILBOX_ADDRESS"),
        ("CreateMailbox", {"address": "x" * 101}, "INVALID_MAILBOX_ADDRESS"),
        ("CreateMailbox", {"address": " ola.nordmann#9YDT"}, "INVALID_MAILBOX_ADDRESS"),
        ("CreateAndChooseMailbox", {"certificate": b"not DER"}, "INVALID_CERTIFICATE"),
        ("CreateMailbox", {"identifier": "11822648951"}, "INVALID_IDENTIFIER"),
        ("ChooseMailbox", {"identifier": ""}, "INVALID_IDENTIFIER"),
        ("DeleteMailbox", {"identifier": "1182264895"}, "INVALID_IDENTIFIER"),
    ],
)
def test_an_event_with_other_or_malformed_data_is_answered_so_and_changes_nothing(
    register: Register, database: "Connection[Any]", name: str, fields: dict[str, Any], expected: str
) -> None:
    load(register, OLA, **WITH_EMAIL, **UNCHOSEN)
    before = contents(database)

    assert name_of(push(register, name, **fields)) == expected
    assert contents(database) == before


def test_may_choose_answers_a_malformed_identifier_with_a_result(register: Register) -> None:
    assert may_choose(register, identifier="11822648951") == "INVALID_IDENTIFIER"


def test_create_and_choose_refused_whole_creates_nothing(register: Register) -> None:
    load(register, OLA, **WITH_EMAIL, **MAILBOX)

    refused = push(register, "CreateAndChooseMailbox", EBOKS, address="ola-nordmann-eboks")

    assert name_of(refused) == "ALREADY_CHOSEN"
    [own] = own_entry(register).mailboxes
    assert own.mailbox.operator_organisation_number == DIGIPOST
    assert own.chosen


def test_creating_a_mailbox_never_takes_an_empty_choice(register: Register) -> None:
    load(register, OLA, **WITH_EMAIL)

    push(register, "CreateMailbox")

    assert not own_entry(register).mailboxes[0].chosen
    assert not own_entry(register).person.HasField("mailbox")


def test_an_operator_reaches_its_own_mailbox_only(register: Register) -> None:
    load(register, OLA, **WITH_EMAIL, **UNCHOSEN)

    assert name_of(push(register, "ChooseMailbox", EBOKS)) == "NO_MAILBOX"
    assert name_of(push(register, "DeleteMailbox", EBOKS)) == "NO_MAILBOX"
    assert name_of(push(register, "CreateMailbox", EBOKS, **OTHER_ADDRESS)) == "OK"

    addresses = {
        own.mailbox.operator_organisation_number: own.mailbox.address for own in own_entry(register).mailboxes
    }
    assert addresses == {DIGIPOST: ADDRESS["address"], EBOKS: OTHER_ADDRESS["address"]}


def test_deleting_the_chosen_mailbox_leaves_none_chosen_and_another_one_unchosen(
    register: Register,
) -> None:
    load(register, OLA, **WITH_EMAIL, **BOTH)

    assert name_of(push(register, "DeleteMailbox")) == "OK"

    [left] = own_entry(register).mailboxes
    assert left.mailbox.operator_organisation_number == EBOKS
    assert not left.chosen
    assert may_choose(register, EBOKS) == "MAY_CHOOSE"


@pytest.mark.parametrize("name", REQUESTS)
def test_the_same_event_again_gets_the_first_answer_marked_duplicate(register: Register, name: str) -> None:
    load(register, OLA, **WITH_EMAIL, **UNCHOSEN)
    event = {"event_id": request_id()}

    first, second = push(register, name, **event), push(register, name, **event)

    assert name_of(first) == "OK"
    assert not first.duplicate
    assert second.duplicate
    second.duplicate = False
    assert second == first


@pytest.mark.parametrize("name", REQUESTS)
def test_a_refused_event_gets_the_same_answer_also_when_it_could_succeed_by_now(
    register: Register, name: str
) -> None:
    event = {"event_id": request_id()}
    refused = push(register, name, **event)
    load(register, OLA, **WITH_EMAIL, **UNCHOSEN)

    again = push(register, name, **event)

    assert (name_of(refused), name_of(again)) == ("PERSON_NOT_FOUND", "PERSON_NOT_FOUND")
    assert again.duplicate
    assert name_of(push(register, name)) == "OK"


def test_an_event_id_is_refused_for_another_body_or_verb_but_free_for_another_operator(
    register: Register, database: "Connection[Any]"
) -> None:
    load(register, OLA, **WITH_EMAIL)
    load(register, KARI, **WITH_EMAIL)
    event = {"event_id": request_id()}
    push(register, "CreateMailbox", **event)
    before = contents(database)

    for name, identifier in (("CreateMailbox", KARI), ("DeleteMailbox", OLA)):
        with pytest.raises(RegisterError) as refused:
            push(register, name, identifier=identifier, **event)
        assert refused.value.reason == "REQUEST_ID_REUSED"
        assert refused.value.status.name == "ALREADY_EXISTS"
    assert contents(database) == before
    assert not push(register, "CreateMailbox", EBOKS, **event).duplicate


def test_an_organisation_that_is_no_operator_of_this_register_is_refused(
    register: Register, database: "Connection[Any]"
) -> None:
    load(register, OLA, **WITH_EMAIL)
    before = contents(database, ("person", "mailbox", "request"))

    for name in REQUESTS:
        with pytest.raises(RegisterError) as refused:
            push(register, name, PUBLIC_BODY)
        assert refused.value.reason == "CALLER_NOT_ALLOWED"
    with pytest.raises(RegisterError) as refused:
        may_choose(register, PUBLIC_BODY)
    assert refused.value.reason == "CALLER_NOT_ALLOWED"
    assert contents(database, ("person", "mailbox", "request")) == before


def test_the_citizen_may_take_the_choice_that_an_operator_may_not(register: Register) -> None:
    load(register, OLA, **WITH_EMAIL, **MAILBOX)
    push(register, "CreateMailbox", EBOKS, **OTHER_ADDRESS)
    assert name_of(push(register, "ChooseMailbox", EBOKS)) == "ALREADY_CHOSEN"

    register.as_citizen(OLA).ChooseMailbox(
        citizen_service_pb2.ChooseMailboxRequest(
            request_id=request_id(), identifier=OLA, operator_organisation_number=EBOKS
        )
    )

    assert own_entry(register).person.mailbox.operator_organisation_number == EBOKS
    assert name_of(push(register, "ChooseMailbox", DIGIPOST)) == "ALREADY_CHOSEN"
