"""ChooseMailbox with open_account, through the channel: from the citizen's wish to the chosen mailbox."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from krr.v1 import citizen_service_pb2 as pb
from krr.v1 import delivery_service_pb2 as work
from krr.v1 import person_pb2, register_service_pb2
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, OLA, register_request, request_id
from tests.server.database import contents
from tests.server.test_citizen_writes import CHANGED, UNCHANGED, own_entry, refusal, update, write
from tests.server.test_look_up import EMAIL, MAILBOX, RESERVED, load

REQUESTED = person_pb2.WRITE_RESULT_ACCOUNT_REQUESTED
ADDRESS = "ola.nordmann#OPEN"
OPENING: dict[str, Any] = {"operator_organisation_number": DIGIPOST, "open_account": True}
PENDING = pb.AccountRequest(operator_organisation_number=DIGIPOST, state=pb.OPERATOR_STATE_PENDING)
MOBILE = person_pb2.ContactPoint(value="+4791234567", updated_time=EMAIL.updated_time)


def lease(register: Register, adapter: str = "digipost") -> list[work.Delivery]:
    request = work.LeaseDeliveriesRequest(max_deliveries=10, lease_duration=Duration(seconds=60))
    return list(register.as_adapter(adapter).LeaseDeliveries(request).deliveries)


def finish(register: Register, delivery: work.Delivery, adapter: str = "digipost", **outcome: Any) -> None:
    register.as_adapter(adapter).FinishDelivery(
        work.FinishDeliveryRequest(
            delivery_id=delivery.delivery_id, lease_token=delivery.lease_token, **outcome
        )
    )


def opened(address: str = ADDRESS) -> work.DeliveryDone:
    return work.DeliveryDone(mailbox_address=address)


def messages(register: Register) -> list[work.Message]:
    request = work.LeaseMessagesRequest(
        channel=work.CHANNEL_SMS, max_messages=10, lease_duration=Duration(seconds=60)
    )
    return list(register.as_adapter("sms").LeaseMessages(request).messages)


@pytest.fixture
def asking(register: Register) -> work.Delivery:
    """Ola is registered and asked Digipost for an account; the leased delivery."""
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    write(register, "ChooseMailbox", **OPENING)
    [delivery] = lease(register)
    return delivery


def test_the_choice_asks_the_operator_and_public_bodies_see_nothing_of_it(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    feed = register_service_pb2.ListChangesRequest()
    before = register.as_public_body().ListChanges(feed)

    answer = write(register, "ChooseMailbox", **OPENING)

    assert (answer.result, answer.change_number) == (REQUESTED, 1)
    assert register.as_public_body().ListChanges(feed).persons == before.persons
    assert own_entry(register).account_request == PENDING
    assert not own_entry(register).mailboxes
    assert messages(register) == []
    [delivery] = lease(register)
    assert delivery.open_account == work.AccountToOpen(email="ola@example.com", mobile="+4791234567")
    assert not delivery.receives_public_mail


def test_an_opened_account_is_chosen_confirmed_by_sms_and_switched_on(
    register: Register, asking: work.Delivery
) -> None:
    finish(register, asking, done=opened())

    entry = own_entry(register)
    assert not entry.HasField("account_request")
    assert (entry.person.mailbox.address, entry.mailboxes[0].chosen) == (ADDRESS, True)
    assert entry.mailboxes[0].operator_state == pb.OPERATOR_STATE_PENDING
    assert [message.operator_name for message in messages(register)] == ["Digipost"]
    history = register.as_citizen(OLA).ListHistory(pb.ListHistoryRequest(identifier=OLA, page_size=1))
    assert [entry.changed_by for entry in history.entries] == [pb.CHANGED_BY_CITIZEN]
    [on] = lease(register)
    assert (on.receives_public_mail, on.mailbox_address) == (True, ADDRESS)
    assert not on.HasField("open_account")
    finish(register, on, done=work.DeliveryDone())
    assert own_entry(register).mailboxes[0].operator_state == pb.OPERATOR_STATE_IN_STEP
    assert lease(register) == []


@pytest.mark.parametrize("withdrawal", ["ChooseMailbox", "Reserve", "DeletePerson", "email", "mobile"])
def test_a_request_is_withdrawn_by_what_the_citizen_does_later(register: Register, withdrawal: str) -> None:
    chosen = [person_pb2.Mailbox(operator_organisation_number=EBOKS, address="ola-nordmann-eboks")]
    load(
        register,
        OLA,
        email=EMAIL,
        mobile=MOBILE,
        mailboxes=chosen,
        chosen_operator_organisation_number=EBOKS,
    )
    assert write(register, "ChooseMailbox", **OPENING).result == REQUESTED
    assert own_entry(register).account_request == PENDING

    if withdrawal in ("email", "mobile"):
        update(register, withdrawal)
    elif withdrawal == "ChooseMailbox":
        # The choice that stood all the time.
        assert (
            write(register, withdrawal, operator_organisation_number=EBOKS, open_account=True).result
            == UNCHANGED
        )
    else:
        write(register, withdrawal)

    assert not own_entry(register).HasField("account_request")
    [off] = lease(register)
    assert not off.HasField("open_account")
    assert not off.receives_public_mail


def test_an_account_that_exists_though_withdrawn_is_entered_and_not_chosen(
    register: Register, asking: work.Delivery
) -> None:
    write(register, "Reserve")
    finish(register, asking, done=opened())
    write(register, "CancelReservation")
    entry = own_entry(register)
    assert [(own.mailbox.address, own.chosen) for own in entry.mailboxes] == [(ADDRESS, False)]
    assert messages(register) == []


def test_the_citizen_sees_a_refusal_until_the_next_choice(register: Register, asking: work.Delivery) -> None:
    finish(register, asking, refused=work.DeliveryRefused(error_code="ACCOUNT_NOT_OPENED"))
    assert own_entry(register).account_request.state == pb.OPERATOR_STATE_REFUSED
    assert write(register, "ChooseMailbox", **OPENING).result == REQUESTED
    assert own_entry(register).account_request == PENDING
    assert len(lease(register)) == 1


def test_the_same_request_again_gets_the_first_answer_and_asks_nobody_anew(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    same = {"request_id": request_id(), **OPENING}
    first = write(register, "ChooseMailbox", **same)
    [delivery] = lease(register)
    finish(register, delivery, done=opened())

    again = write(register, "ChooseMailbox", **same)

    assert (again.result, again.duplicate, first.duplicate) == (REQUESTED, True, False)
    assert not own_entry(register).HasField("account_request")


def test_who_asks_twice_gets_one_account(register: Register, asking: work.Delivery) -> None:
    assert write(register, "ChooseMailbox", **OPENING).result == REQUESTED
    finish(register, asking, done=opened())
    assert own_entry(register).person.mailbox.address == ADDRESS
    assert [delivery.receives_public_mail for delivery in lease(register)] == [True]
    assert len(messages(register)) == 1


def test_where_there_is_a_mailbox_already_it_is_an_ordinary_choice(register: Register) -> None:
    there = {"mailboxes": MAILBOX["mailboxes"]}
    load(register, OLA, email=EMAIL, **there)
    assert write(register, "ChooseMailbox", **OPENING).result == CHANGED
    assert own_entry(register).mailboxes[0].chosen
    assert not own_entry(register).HasField("account_request")
    assert write(register, "ChooseMailbox", **OPENING).result == UNCHANGED


@pytest.mark.parametrize(
    ("loaded", "operator", "reason"),
    [
        ({"email": EMAIL}, DIGIPOST, "CONTACT_MISSING"),
        ({"mobile": MOBILE}, DIGIPOST, "CONTACT_MISSING"),
        ({"email": EMAIL, "mobile": MOBILE}, EBOKS, "NO_MAILBOX"),
        ({"email": EMAIL, "mobile": MOBILE} | RESERVED, DIGIPOST, "RESERVED"),
        (None, DIGIPOST, "PERSON_NOT_FOUND"),
    ],
)
def test_an_account_that_may_not_be_asked_for_is_refused_and_nothing_changes(
    register: Register,
    database: "Connection[Any]",
    loaded: dict[str, Any] | None,
    operator: str,
    reason: str,
) -> None:
    if loaded is not None:
        load(register, OLA, **loaded)
    before = contents(database)
    refused = refusal(register, "ChooseMailbox", **OPENING | {"operator_organisation_number": operator})
    assert refused.reason == reason
    assert contents(database) == before


def test_one_who_changed_since_is_asked_to_read_again(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    refused = refusal(register, "ChooseMailbox", **OPENING, expected_change_number=7)
    assert refused.reason == "CHANGED_SINCE"
    assert lease(register) == []


def test_contact_info_that_changed_is_given_as_it_is_at_the_lease(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    write(register, "ChooseMailbox", **OPENING)
    register.as_citizen(OLA).UpdateContact(
        pb.UpdateContactRequest(
            request_id=request_id(),
            identifier=OLA,
            update_mask=FieldMask(paths=["mobile"]),
            mobile="92345678",
        )
    )
    [delivery] = lease(register)
    assert delivery.open_account.mobile == "+4792345678"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "INVALID_FIELD"),
        ("short#1", "INVALID_MAILBOX_ADDRESS"),
        ("x" * 101, "INVALID_MAILBOX_ADDRESS"),
        ("ola.nordmann\n#OPEN", "INVALID_MAILBOX_ADDRESS"),
    ],
)
def test_an_address_that_is_none_is_refused_by_name_and_the_request_stands(
    register: Register, asking: work.Delivery, address: str, reason: str
) -> None:
    with pytest.raises(RegisterError) as refused:
        finish(register, asking, done=opened(address))
    assert refused.value.reason == reason
    assert [field for field, _ in refused.value.fields] == ["done.mailbox_address"]
    assert own_entry(register).account_request == PENDING
    finish(register, asking, done=opened())
