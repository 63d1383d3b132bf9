"""The main job, seen from the register's callers."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from krr.v1 import (
    citizen_service_pb2,
    delivery_service_pb2,
    mailbox_operator_service_pb2,
    register_service_pb2,
)

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, OLA, register_request, request_id


def _lease() -> delivery_service_pb2.LeaseDeliveriesRequest:
    lease = Duration()
    lease.FromTimedelta(timedelta(seconds=30))
    return delivery_service_pb2.LeaseDeliveriesRequest(max_deliveries=10, lease_duration=lease)


def test_a_pushed_sign_up_is_recorded_told_to_the_operator_confirmed_and_seen(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))

    pushed = register.as_digipost().CreateAndChooseMailbox(
        mailbox_operator_service_pb2.CreateAndChooseMailboxRequest(
            event_id=request_id(), identifier=OLA, address="ola.nordmann#9YDT"
        )
    )

    assert pushed.answer.result == mailbox_operator_service_pb2.MAILBOX_RESULT_OK
    entry = (
        register.as_public_body()
        .LookUpPersons(
            register_service_pb2.LookUpPersonsRequest(
                identifiers=[OLA],
                purpose=register_service_pb2.PURPOSE_NOTICE,
                at_least_as_fresh=pushed.answer.freshness_token,
            )
        )
        .entries[0]
    )
    assert entry.person.mailbox.operator_organisation_number == DIGIPOST
    assert entry.letter_route == register_service_pb2.LETTER_ROUTE_MAILBOX
    page = register.as_public_body().ListChanges(register_service_pb2.ListChangesRequest())
    assert [person.mailbox.address for person in page.persons] == ["ola.nordmann#9YDT"]
    assert page.caught_up
    [delivery] = register.as_adapter("digipost").LeaseDeliveries(_lease()).deliveries
    assert delivery.identifier == OLA
    assert delivery.receives_public_mail
    lease = Duration(seconds=30)
    [message] = (
        register.as_adapter("sms")
        .LeaseMessages(
            delivery_service_pb2.LeaseMessagesRequest(
                channel=delivery_service_pb2.CHANNEL_SMS, max_messages=10, lease_duration=lease
            )
        )
        .messages
    )
    assert message.operator_name == "Digipost"
    assert message.recipient == "+4791234567"


def test_a_switch_tells_the_new_operator_before_the_old(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    register.as_digipost().CreateAndChooseMailbox(
        mailbox_operator_service_pb2.CreateAndChooseMailboxRequest(
            event_id=request_id(), identifier=OLA, address="ola.nordmann#9YDT"
        )
    )
    register.as_eboks().CreateMailbox(
        mailbox_operator_service_pb2.CreateMailboxRequest(
            event_id=request_id(), identifier=OLA, address="ola-nordmann-eboks"
        )
    )
    digipost, eboks = register.as_adapter("digipost"), register.as_adapter("eboks")
    [first] = digipost.LeaseDeliveries(_lease()).deliveries
    digipost.FinishDelivery(_done(first))

    register.as_citizen(OLA).ChooseMailbox(
        citizen_service_pb2.ChooseMailboxRequest(
            request_id=request_id(), identifier=OLA, operator_organisation_number=EBOKS
        )
    )

    assert not digipost.LeaseDeliveries(_lease()).deliveries
    [on] = eboks.LeaseDeliveries(_lease()).deliveries
    assert on.receives_public_mail
    assert on.mailbox_address == "ola-nordmann-eboks"
    eboks.FinishDelivery(_done(on))
    [off] = digipost.LeaseDeliveries(_lease()).deliveries
    assert not off.receives_public_mail


def _done(delivery: delivery_service_pb2.Delivery) -> delivery_service_pb2.FinishDeliveryRequest:
    return delivery_service_pb2.FinishDeliveryRequest(
        delivery_id=delivery.delivery_id,
        lease_token=delivery.lease_token,
        done=delivery_service_pb2.DeliveryDone(),
    )
