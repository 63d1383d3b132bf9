"""CitizenService through the channel: what each write does, answers and refuses."""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from krr.v1 import citizen_service_pb2 as pb
from krr.v1 import mailbox_operator_service_pb2, person_pb2
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, PUBLIC_BODY, register_request, request_id
from tests.server.database import contents
from tests.server.rpcs import Rpcs
from tests.server.test_look_up import EMAIL, MAILBOX, RESERVED, load

BOTH: dict[str, Any] = {
    "mailboxes": [
        *MAILBOX["mailboxes"],
        person_pb2.Mailbox(operator_organisation_number=EBOKS, address="ola-nordmann-eboks"),
    ],
    "chosen_operator_organisation_number": DIGIPOST,
}
CHANGED, UNCHANGED = person_pb2.WRITE_RESULT_CHANGED, person_pb2.WRITE_RESULT_UNCHANGED


def write(register: Register, name: str, identifier: str = OLA, **fields: Any) -> person_pb2.WriteAnswer:
    """Make the citizen's write; a fresh request_id unless given."""
    request = getattr(pb, f"{name}Request")(**{"request_id": request_id(), "identifier": identifier} | fields)
    answer: person_pb2.WriteAnswer = getattr(register.as_citizen(identifier), name)(request).answer
    return answer


def refusal(register: Register, name: str, identifier: str = OLA, **fields: Any) -> RegisterError:
    with pytest.raises(RegisterError) as refused:
        write(register, name, identifier, **fields)
    return refused.value


def update(register: Register, *paths: str, **fields: Any) -> person_pb2.WriteAnswer:
    return write(register, "UpdateContact", update_mask=FieldMask(paths=paths), **fields)


def own_entry(register: Register, identifier: str = OLA) -> pb.GetPersonResponse:
    return register.as_citizen(identifier).GetPerson(pb.GetPersonRequest(identifier=identifier))


@pytest.mark.parametrize(
    ("name", "fields", "first", "again"),
    [
        ("SetLanguage", {"language": person_pb2.LANGUAGE_SE}, CHANGED, UNCHANGED),
        ("Reserve", {}, CHANGED, UNCHANGED),
        ("CancelReservation", {}, UNCHANGED, UNCHANGED),
        ("ChooseMailbox", {"operator_organisation_number": EBOKS}, CHANGED, UNCHANGED),
        ("ChooseMailbox", {"operator_organisation_number": DIGIPOST}, UNCHANGED, UNCHANGED),
        ("ConfirmContact", {}, CHANGED, CHANGED),
        (
            "UpdateContact",
            {"email": "ola@example.org", "update_mask": FieldMask(paths=["email"])},
            CHANGED,
            CHANGED,
        ),
    ],
)
def test_a_write_says_whether_it_changed_anything_and_takes_a_number_only_then(
    register: Register,
    name: str,
    fields: dict[str, Any],
    first: "person_pb2.WriteResult.ValueType",
    again: "person_pb2.WriteResult.ValueType",
) -> None:
    load(register, KARI, email=EMAIL)
    load(register, OLA, email=EMAIL, **BOTH)
    number = 2

    for expected in (first, again):
        answer = write(register, name, **fields)

        number += expected == CHANGED
        assert answer.result == expected
        assert answer.change_number == number == own_entry(register).person.change_number
        assert answer.freshness_token
        assert not answer.duplicate


def test_registering_sets_what_was_given_in_its_normal_form(register: Register) -> None:
    answer = write(
        register,
        "RegisterPerson",
        email="Ola@EXAMPLE.com",
        mobile="912 34 567",
        language=person_pb2.LANGUAGE_NN,
    )

    assert answer.result == CHANGED
    person = own_entry(register).person
    assert person.status == person_pb2.PERSON_STATUS_ACTIVE
    assert person.reservation == person_pb2.RESERVATION_NOT_RESERVED
    assert person.email.value == "Ola@example.com"
    assert person.mobile.value == "+4791234567"
    assert person.language == person_pb2.LANGUAGE_NN
    assert refusal(register, "RegisterPerson").reason == "ALREADY_REGISTERED"


def test_a_deleted_person_registers_again_without_what_was_there_before(register: Register) -> None:
    load(register, OLA, email=EMAIL, language=person_pb2.LANGUAGE_SE, **BOTH)

    deleted = write(register, "DeletePerson")
    assert own_entry(register) == pb.GetPersonResponse(
        person=person_pb2.Person(
            identifier=OLA,
            status=person_pb2.PERSON_STATUS_DELETED,
            change_number=deleted.change_number,
            deletion_reason=person_pb2.DELETION_REASON_OWN_CHOICE,
        )
    )
    assert refusal(register, "DeletePerson").reason == "PERSON_NOT_FOUND"
    write(register, "RegisterPerson", mobile="+4791234567")

    entry = own_entry(register)
    assert not entry.mailboxes
    assert not entry.person.HasField("email")
    assert entry.person.language == person_pb2.LANGUAGE_UNSPECIFIED
    assert entry.person.change_number == deleted.change_number + 1
    assert entry.person.deletion_reason == person_pb2.DELETION_REASON_UNSPECIFIED


def test_an_unknown_person_reads_an_entry_that_says_so_and_may_only_register_and_reserve(
    register: Register,
) -> None:
    assert own_entry(register) == pb.GetPersonResponse(
        person=person_pb2.Person(identifier=OLA, status=person_pb2.PERSON_STATUS_NOT_REGISTERED)
    )
    for name, fields in (
        ("UpdateContact", {"update_mask": FieldMask(paths=["email"]), "email": "ola@example.com"}),
        ("ConfirmContact", {}),
        ("SetLanguage", {"language": person_pb2.LANGUAGE_NB}),
        ("CancelReservation", {}),
        ("ChooseMailbox", {"operator_organisation_number": DIGIPOST}),
        ("DeletePerson", {}),
    ):
        assert refusal(register, name, **fields).reason == "PERSON_NOT_FOUND", name
    write(register, "Reserve", expected_change_number=0)

    assert own_entry(register).person.reservation == person_pb2.RESERVATION_RESERVED


def test_a_reserved_person_sees_the_mailboxes_and_may_not_choose_until_it_cancels(
    register: Register,
) -> None:
    load(register, OLA, email=EMAIL, **BOTH)
    write(register, "Reserve")

    entry = own_entry(register)
    assert not entry.person.HasField("mailbox")
    assert {(box.mailbox.operator_organisation_number, box.chosen) for box in entry.mailboxes} == {
        (DIGIPOST, True),
        (EBOKS, False),
    }
    assert refusal(register, "ChooseMailbox", operator_organisation_number=EBOKS).reason == "RESERVED"
    write(register, "CancelReservation")
    assert own_entry(register).person.mailbox.operator_organisation_number == DIGIPOST
    assert write(register, "ChooseMailbox", operator_organisation_number=EBOKS).result == CHANGED


def test_a_reserved_person_who_deletes_keeps_the_reservation_and_nothing_else(register: Register) -> None:
    load(register, OLA, email=EMAIL, language=person_pb2.LANGUAGE_EN, **RESERVED, **BOTH)
    before = own_entry(register).person

    write(register, "DeletePerson")

    entry = own_entry(register)
    assert entry.person == person_pb2.Person(
        identifier=OLA,
        status=person_pb2.PERSON_STATUS_ACTIVE,
        reservation=person_pb2.RESERVATION_RESERVED,
        reservation_time=before.reservation_time,
        change_number=before.change_number + 1,
    )
    assert not entry.mailboxes


@pytest.mark.parametrize(
    ("loaded", "operator", "reason"),
    [
        ({"email": EMAIL} | MAILBOX, EBOKS, "NO_MAILBOX"),
        (MAILBOX, DIGIPOST, "CONTACT_MISSING"),
        ({"email": EMAIL} | RESERVED | MAILBOX, DIGIPOST, "RESERVED"),
        ({"email": EMAIL} | MAILBOX, PUBLIC_BODY, "UNKNOWN_OPERATOR"),
        ({"email": EMAIL} | MAILBOX, "984661186", "INVALID_ORGANISATION_NUMBER"),
    ],
)
def test_a_mailbox_that_may_not_be_chosen_is_refused_and_nothing_changes(
    register: Register, database: "Connection[Any]", loaded: dict[str, Any], operator: str, reason: str
) -> None:
    load(register, OLA, **loaded)
    before = contents(database)

    assert refusal(register, "ChooseMailbox", operator_organisation_number=operator).reason == reason
    assert contents(database) == before


def test_an_update_sets_the_named_fields_only_and_an_empty_one_removes(register: Register) -> None:
    write(register, "RegisterPerson", email="ola@example.com", mobile="+4791234567")

    update(register, "mobile", mobile="92345678", email="not looked at")
    person = own_entry(register).person
    assert (person.email.value, person.mobile.value) == ("ola@example.com", "+4792345678")
    update(register, "email")
    assert not own_entry(register).person.HasField("email")
    update(register, "email", "mobile")
    assert not own_entry(register).person.HasField("mobile")
    assert refusal(register, "ConfirmContact").reason == "CONTACT_MISSING"


def test_the_same_value_again_is_confirmed_and_another_one_is_updated(register: Register) -> None:
    write(register, "RegisterPerson", email="ola@example.com")
    registered = own_entry(register).person.email

    update(register, "email", email="ola@EXAMPLE.COM")
    confirmed = own_entry(register).person.email
    update(register, "email", email="ola@example.org")
    updated = own_entry(register).person.email

    assert confirmed.updated_time == registered.updated_time
    assert confirmed.HasField("confirmed_time")
    assert updated.updated_time.ToDatetime() > registered.updated_time.ToDatetime()
    assert not updated.HasField("confirmed_time")


@pytest.mark.parametrize("paths", [[], ["email", "language"], ["identifier"], ["*"], ["Email"], [""]])
def test_a_mask_that_names_anything_but_email_and_mobile_is_refused(
    register: Register, paths: list[str]
) -> None:
    load(register, OLA, email=EMAIL)

    refused = refusal(register, "UpdateContact", update_mask=FieldMask(paths=paths))

    assert refused.reason == "INVALID_FIELD"
    assert [field for field, _ in refused.fields] == ["update_mask"]
    assert own_entry(register).person.email.value == EMAIL.value


def test_the_same_request_again_gets_the_first_answer_and_does_nothing(register: Register) -> None:
    load(register, OLA, email=EMAIL, **BOTH)
    same = {"request_id": request_id(), "operator_organisation_number": EBOKS}

    first = write(register, "ChooseMailbox", **same)
    write(register, "ChooseMailbox", operator_organisation_number=DIGIPOST)
    second = write(register, "ChooseMailbox", **same)

    assert second.duplicate
    second.duplicate = False
    assert second == first
    assert own_entry(register).person.mailbox.operator_organisation_number == DIGIPOST


def test_a_request_id_is_refused_for_another_body_or_verb_but_free_for_another_caller(
    register: Register,
) -> None:
    load(register, OLA, email=EMAIL)
    load(register, KARI, email=EMAIL)
    used = {"request_id": request_id()}
    write(register, "SetLanguage", language=person_pb2.LANGUAGE_EN, **used)

    other_body = refusal(register, "SetLanguage", language=person_pb2.LANGUAGE_NB, **used)
    other_verb = refusal(register, "Reserve", **used)
    other_caller = write(register, "SetLanguage", KARI, language=person_pb2.LANGUAGE_EN, **used)

    assert other_body.reason == other_verb.reason == "REQUEST_ID_REUSED"
    assert not other_caller.duplicate
    assert own_entry(register).person.language == person_pb2.LANGUAGE_EN
    assert own_entry(register).person.reservation == person_pb2.RESERVATION_NOT_RESERVED


def test_a_refused_request_leaves_no_trace_and_is_judged_anew(
    register: Register, database: "Connection[Any]"
) -> None:
    load(register, OLA, email=EMAIL)
    same = {"request_id": request_id(), "operator_organisation_number": DIGIPOST}
    before = contents(database, ("request", "person"))

    assert refusal(register, "ChooseMailbox", **same).reason == "NO_MAILBOX"
    assert contents(database, ("request", "person")) == before
    register.as_digipost().CreateMailbox(
        mailbox_operator_service_pb2.CreateMailboxRequest(
            event_id=request_id(), identifier=OLA, address="ola.nordmann#9YDT"
        )
    )
    answer = write(register, "ChooseMailbox", **same)

    assert answer.result == CHANGED
    assert not answer.duplicate


def test_a_write_on_an_entry_that_changed_since_is_refused(register: Register) -> None:
    load(register, OLA, email=EMAIL)

    for expected in (0, 2, -1, 2**63 - 1):
        assert refusal(register, "Reserve", expected_change_number=expected).reason == "CHANGED_SINCE"
    assert write(register, "Reserve", expected_change_number=1).result == CHANGED
    # The answer of a repeated request does not depend on what came after.
    assert refusal(register, "Reserve", expected_change_number=1).reason == "CHANGED_SINCE"
    assert write(register, "Reserve", expected_change_number=2).result == UNCHANGED


def test_a_citizen_reaches_no_other_persons_entry(rpcs: Rpcs, register: Register) -> None:
    load(register, KARI, email=EMAIL)
    for name in [method.name for method in pb.DESCRIPTOR.services_by_name["CitizenService"].methods]:
        request = getattr(pb, f"{name}Request")(identifier=KARI)
        if name not in ("GetPerson", "ListHistory"):
            request.request_id = request_id()
        if name == "UpdateContact":
            request.update_mask.paths.append("email")
        if name == "SetLanguage":
            request.language = person_pb2.LANGUAGE_NB
        if name == "ChooseMailbox":
            request.operator_organisation_number = DIGIPOST
        if name in ("SendVerificationCode", "VerifyContact"):
            request.contact_kind = person_pb2.CONTACT_KIND_EMAIL
        if name == "VerifyContact":
            request.code = "123456"

        outcome = rpcs.call(f"CitizenService/{name}", request, f"citizen/{OLA}")

        assert outcome.reason == "OTHER_PERSON", name
    assert own_entry(register, KARI).person.change_number == 1


def test_the_log_in_service_registers_and_reads_anyone_and_its_repetition_is_known(
    register: Register,
) -> None:
    log_in = register.as_log_in_service()
    request = register_request(NIELS)

    first, second = log_in.RegisterPerson(request).answer, log_in.RegisterPerson(request).answer

    assert (first.duplicate, second.duplicate) == (False, True)
    assert log_in.GetPerson(pb.GetPersonRequest(identifier=NIELS)).person.change_number == 1
