"""AdminService.DeletePerson and ReplaceIdentifier: what is left, what moves, who is told."""

from functools import partial
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import (
    citizen_service_pb2,
    delivery_service_pb2,
    message_record_pb2,
    person_pb2,
    register_service_pb2,
)
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, request_id
from tests.people import synthetic_identifiers as people
from tests.server.database import contents
from tests.server.test_citizen_writes import BOTH, CHANGED, UNCHANGED, own_entry, update, write
from tests.server.test_history import history, said
from tests.server.test_look_up import EMAIL, MAILBOX, MOBILE, RESERVED, load, look_up
from tests.server.valid_requests import certificate

MINUTE = Duration(seconds=60)
IDENTITY_ENDS = ("DEAD", "EXPIRED_IDENTITY", "NEW_IDENTITY")
IDENTITY_GOES_ON = ("OWN_CHOICE", "DISAPPEARED")


def replace(register: Register, old: str = OLA, new: str = NIELS, **fields: Any) -> person_pb2.WriteAnswer:
    """Replace the identifier; a fresh request_id unless given."""
    given = {"request_id": request_id(), "old_identifier": old, "new_identifier": new} | fields
    return register.as_administrator().ReplaceIdentifier(pb.ReplaceIdentifierRequest(**given)).answer


def delete(
    register: Register, reason: str = "DEAD", identifier: str = OLA, **fields: Any
) -> person_pb2.WriteAnswer:
    """Delete the person; a fresh request_id unless given."""
    value = person_pb2.DeletionReason.Value(f"DELETION_REASON_{reason}")
    given: dict[str, Any] = {"request_id": request_id(), "identifier": identifier, "reason": value} | fields
    return register.as_administrator().DeletePerson(pb.AdminServiceDeletePersonRequest(**given)).answer


def feed(register: Register) -> dict[str, person_pb2.Person]:
    page = register.as_public_body().ListChanges(register_service_pb2.ListChangesRequest())
    assert page.caught_up
    return {person.identifier: person for person in page.persons}


def tombstone(identifier: str, reason: str, change_number: int) -> person_pb2.Person:
    return person_pb2.Person(
        identifier=identifier,
        status=person_pb2.PERSON_STATUS_DELETED,
        change_number=change_number,
        deletion_reason=person_pb2.DeletionReason.Value(f"DELETION_REASON_{reason}"),
    )


def lease(register: Register, adapter: str) -> list[delivery_service_pb2.Delivery]:
    request = delivery_service_pb2.LeaseDeliveriesRequest(max_deliveries=10, lease_duration=MINUTE)
    return list(register.as_adapter(adapter).LeaseDeliveries(request).deliveries)


def finish(register: Register, adapter: str, *leased: delivery_service_pb2.Delivery) -> None:
    for each in leased:
        register.as_adapter(adapter).FinishDelivery(
            delivery_service_pb2.FinishDeliveryRequest(
                delivery_id=each.delivery_id,
                lease_token=each.lease_token,
                done=delivery_service_pb2.DeliveryDone(),
            )
        )


def lease_sms(register: Register) -> list[delivery_service_pb2.Message]:
    request = delivery_service_pb2.LeaseMessagesRequest(
        channel=delivery_service_pb2.CHANNEL_SMS, max_messages=10, lease_duration=MINUTE
    )
    return list(register.as_adapter("sms").LeaseMessages(request).messages)


def list_messages(register: Register) -> list[message_record_pb2.MessageStatus]:
    return list(register.as_administrator().ListMessages(message_record_pb2.ListMessagesRequest()).messages)


def told(register: Register, adapter: str) -> dict[str, bool]:
    """Bring the operator's side up to date; what it was told of each person."""
    leased = lease(register, adapter)
    finish(register, adapter, *leased)
    return {each.identifier: each.receives_public_mail for each in leased}


def enter_ola(register: Register, **fields: Any) -> None:
    """Ola with all there is, who then chose e-Boks in place of Digipost."""
    box = person_pb2.Mailbox(
        operator_organisation_number=EBOKS, address="ola-nordmann-eboks", certificate=certificate()
    )
    both = BOTH | {"mailboxes": [*MAILBOX["mailboxes"], box]}
    load(register, email=EMAIL, mobile=MOBILE, language=person_pb2.LANGUAGE_SE, **both | fields)
    write(register, "ChooseMailbox", operator_organisation_number=EBOKS)


def test_all_that_the_register_holds_moves_to_the_new_identifier(
    register: Register, database: "Connection[Any]"
) -> None:
    enter_ola(register)
    load(register, KARI, email=EMAIL)
    database.execute("UPDATE person SET email_shared = true")
    told(register, "eboks")
    told(register, "digipost")
    before = own_entry(register)

    answer = replace(register)

    assert answer.result == CHANGED
    after = own_entry(register, NIELS)
    assert after.person.change_number == answer.change_number > before.person.change_number
    states = {box.mailbox.operator_organisation_number: box.operator_state for box in after.mailboxes}
    assert states == {
        DIGIPOST: citizen_service_pb2.OPERATOR_STATE_IN_STEP,
        EBOKS: citizen_service_pb2.OPERATOR_STATE_PENDING,
    }
    after.person.identifier, after.person.change_number = OLA, before.person.change_number
    for box in after.mailboxes:
        box.operator_state = citizen_service_pb2.OPERATOR_STATE_IN_STEP
    assert after == before
    assert list(after.shared_contacts) == [person_pb2.CONTACT_KIND_EMAIL]


def test_the_old_identifier_is_a_tombstone_that_says_why_wherever_it_is_read(register: Register) -> None:
    enter_ola(register)

    token = replace(register).freshness_token

    [old, new] = look_up(register, OLA, NIELS, fresh=token)
    assert old.person == own_entry(register).person == feed(register)[OLA]
    assert old.person == tombstone(OLA, "NEW_IDENTITY", old.person.change_number)
    assert old.person.change_number != new.person.change_number
    assert new.person == feed(register)[NIELS]
    assert new.letter_route == register_service_pb2.LETTER_ROUTE_MAILBOX
    assert not own_entry(register).mailboxes


def test_the_operator_is_told_to_end_the_old_identifier_and_begin_the_new_at_once(register: Register) -> None:
    enter_ola(register)
    assert told(register, "eboks") == {OLA: True}
    assert told(register, "digipost") == {OLA: False}

    replace(register)

    assert told(register, "digipost") == {}
    [old, new] = sorted(lease(register, "eboks"), key=lambda each: each.identifier)
    assert (old.identifier, old.receives_public_mail) == (OLA, False)
    assert (new.identifier, new.receives_public_mail) == (NIELS, True)
    finish(register, "eboks", old, new)
    assert {box.operator_state for box in own_entry(register, NIELS).mailboxes} == {
        citizen_service_pb2.OPERATOR_STATE_IN_STEP
    }


def test_a_switch_under_way_ends_for_the_old_identifier_without_waiting_for_the_new(
    register: Register,
) -> None:
    enter_ola(register)

    replace(register)

    assert told(register, "digipost") == {OLA: False}
    assert told(register, "eboks") == {OLA: False, NIELS: True}


def test_the_confirmation_of_a_choice_is_still_sent_and_no_other(register: Register) -> None:
    enter_ola(register)

    replace(register)

    [message] = lease_sms(register)
    assert message.recipient == MOBILE.value
    assert len(list_messages(register)) == 1


def test_a_message_under_way_keeps_its_lease_and_its_recipient_until_the_person_is_deleted(
    register: Register, database: "Connection[Any]"
) -> None:
    enter_ola(register)
    [message] = lease_sms(register)

    replace(register)
    register.as_adapter("sms").FinishMessage(
        delivery_service_pb2.FinishMessageRequest(
            message_id=message.message_id,
            lease_token=message.lease_token,
            sent=delivery_service_pb2.MessageSent(gateway="LINK_MYLINK", gateway_message_id="4711"),
        )
    )

    recipients = "SELECT recipient FROM message"
    assert database.execute(recipients).fetchall() == [(MOBILE.value,)]
    [status] = list_messages(register)
    assert status.state == message_record_pb2.MESSAGE_STATE_SENT
    write(register, "DeletePerson", NIELS)
    assert database.execute(recipients).fetchall() == [(None,)]


def test_the_history_goes_on_under_the_new_identifier_and_the_old_one_says_only_that_it_ended(
    register: Register,
) -> None:
    enter_ola(register)
    write(register, "Reserve")
    earlier = history(register).entries

    number = replace(register).change_number

    moved = history(register, NIELS)
    assert moved.entries[1:] == earlier
    assert moved.entries[0].change_number == number
    everything = ["status", "reserved", "language", "mailboxes", "chosen", "email", "mobile", "identifier"]
    assert said(moved)[0] == ("ADMINISTRATOR", everything)
    assert said(history(register)) == [("ADMINISTRATOR", everything[:-1])]


def test_a_reservation_moves_along_and_leaves_no_reserved_tombstone(register: Register) -> None:
    load(register, OLA, email=EMAIL, **RESERVED | BOTH)
    before = own_entry(register).person

    replace(register)

    after = own_entry(register, NIELS).person
    assert after.reservation == person_pb2.RESERVATION_RESERVED
    assert after.reservation_time == before.reservation_time
    assert not after.HasField("mailbox")
    assert own_entry(register).person.status == person_pb2.PERSON_STATUS_DELETED
    assert lease(register, "digipost") == []


def test_an_identifier_that_was_deleted_may_take_over_also_back_again(register: Register) -> None:
    load(register, NIELS, email=EMAIL)
    delete(register, "EXPIRED_IDENTITY", NIELS)
    enter_ola(register)
    before = own_entry(register)

    replace(register)
    replace(register, NIELS, OLA)

    after = own_entry(register)
    after.person.change_number = before.person.change_number
    assert after.person == before.person
    assert own_entry(register, NIELS).person.deletion_reason == person_pb2.DELETION_REASON_NEW_IDENTITY
    assert told(register, "eboks") == {OLA: True, NIELS: False}
    assert [message.recipient for message in lease_sms(register)] == [MOBILE.value]
    # Ola's choice, Niels' deletion, and both replacements as the two identifiers saw them.
    assert len(history(register).entries) + len(history(register, NIELS).entries) == 6


@pytest.mark.parametrize(
    ("old", "new", "reason", "field"),
    [
        (OLA, OLA, "INVALID_FIELD", "new_identifier"),
        ("11822648951", NIELS, "INVALID_IDENTIFIER", "old_identifier"),
        (OLA, "23837998493", "INVALID_IDENTIFIER", "new_identifier"),
        (OLA, KARI, "ALREADY_REGISTERED", None),
        (NIELS, next(people()), "PERSON_NOT_FOUND", None),
    ],
)
def test_what_cannot_be_replaced_is_refused_and_nothing_changes(
    register: Register, database: "Connection[Any]", old: str, new: str, reason: str, field: str | None
) -> None:
    load(register, OLA, email=EMAIL)
    load(register, KARI, email=EMAIL)
    before = contents(database)

    with pytest.raises(RegisterError) as refused:
        replace(register, old, new)

    assert refused.value.reason == reason
    assert [name for name, _ in refused.value.fields] == ([field] if field else [])
    assert contents(database) == before


def test_a_deleted_person_cannot_be_replaced_nor_deleted_again(register: Register) -> None:
    load(register, OLA, email=EMAIL)
    delete(register)

    do_again = (
        partial(replace, register),
        partial(delete, register),
        partial(delete, register, "DEAD", KARI),
    )
    for again in do_again:
        with pytest.raises(RegisterError) as refused:
            again()
        assert refused.value.reason == "PERSON_NOT_FOUND"


@pytest.mark.parametrize("do", [replace, delete])
def test_a_repeated_request_gets_the_first_answer_whatever_came_after(register: Register, do: Any) -> None:
    load(register, OLA, email=EMAIL)
    same = {"request_id": request_id()}

    first = do(register, **same)
    write(register, "RegisterPerson", email="ola@example.com")
    second = do(register, **same)

    assert second.duplicate
    second.duplicate = False
    assert second == first
    assert own_entry(register).person.status == person_pb2.PERSON_STATUS_ACTIVE
    with pytest.raises(RegisterError) as refused:
        delete(register, identifier=KARI, **same)
    assert refused.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("reason", [*IDENTITY_ENDS, *IDENTITY_GOES_ON])
def test_a_deleted_person_is_a_tombstone_that_says_why_and_the_operator_is_told(
    register: Register, database: "Connection[Any]", reason: str
) -> None:
    enter_ola(register)
    told(register, "eboks")
    lease_sms(register)

    answer = delete(register, reason)

    assert answer.result == CHANGED
    expected = tombstone(OLA, reason, answer.change_number)
    [entry] = look_up(register, OLA, fresh=answer.freshness_token)
    assert entry.person == own_entry(register).person == feed(register)[OLA] == expected
    assert told(register, "eboks") == {OLA: False}
    assert database.execute("SELECT recipient FROM message").fetchall() == [(None,)]
    everything = ["status", "language", "mailboxes", "chosen", "email", "mobile"]
    assert said(history(register))[0] == ("ADMINISTRATOR", everything)


@pytest.mark.parametrize("reason", IDENTITY_ENDS)
def test_a_reservation_ends_with_the_identity(register: Register, reason: str) -> None:
    load(register, OLA, email=EMAIL, **RESERVED)

    number = delete(register, reason).change_number

    assert own_entry(register).person == tombstone(OLA, reason, number)


@pytest.mark.parametrize("reason", IDENTITY_GOES_ON)
def test_a_reservation_outlives_other_deletions(register: Register, reason: str) -> None:
    load(register, OLA, email=EMAIL, **RESERVED)

    assert delete(register, reason).result == CHANGED
    assert delete(register, reason).result == UNCHANGED

    person = own_entry(register).person
    assert person.status == person_pb2.PERSON_STATUS_ACTIVE
    assert person.reservation == person_pb2.RESERVATION_RESERVED
    assert person.deletion_reason == person_pb2.DELETION_REASON_UNSPECIFIED
    assert not person.HasField("email")


def test_a_deletion_needs_a_reason_of_the_contract(register: Register) -> None:
    load(register, email=EMAIL)

    with pytest.raises(RegisterError) as refused:
        delete(register, "UNSPECIFIED")

    assert refused.value.reason == "INVALID_FIELD"
    assert [field for field, _ in refused.value.fields] == ["reason"]
    update(register, "email", email="ola@example.org")
