"""For each RPC a caller and a request with every field set that is answered OK."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import (
    admin_service_pb2,
    certificate_pb2,
    delivery_service_pb2,
    mailbox_event_pb2,
    mailbox_operator_service_pb2,
    message_record_pb2,
    person_import_pb2,
    person_pb2,
    register_service_pb2,
    statistics_pb2,
)

from tests.certificates import organisation_certificate
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, PUBLIC_BODY, register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.rpcs import Rpcs
from tests.server.valid_campaign_requests import valid_campaign_requests
from tests.server.valid_citizen_requests import valid_citizen_requests
from tests.server.valid_sweep_requests import valid_sweep_requests

LOG_IN_SERVICE = f"log-in-service/{PUBLIC_BODY}"
PUBLIC = f"public-body/{PUBLIC_BODY}"
AT_DIGIPOST, AT_EBOKS = f"operator/{DIGIPOST}", f"operator/{EBOKS}"
ADMINISTRATOR = "administrator/test"
MINUTE, A_MOMENT = Duration(seconds=60), Duration(nanos=1_000_000)

# What is personal about those who take part below.
PERSONAL = (
    *(OLA, KARI, NIELS, "ola@example.com", "kari@example.com", "91234567", "92345678"),
    *("ola.nordmann#9YDT", "kari.nordmann#1ABC", "kari-nordmann-eboks"),
)


class Valid(NamedTuple):
    """A request and who may make it."""

    caller: str
    request: Any


def certificate() -> bytes:
    """An X.509 certificate in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )


def time_ago(**span: int) -> Timestamp:
    """A time in the past."""
    timestamp = Timestamp()
    timestamp.FromDatetime(datetime.now(UTC) - timedelta(**span))
    return timestamp


def event_details(sequence: int = 1) -> mailbox_event_pb2.EventDetails:
    """The details of an operator's event, with evidence."""
    evidence = mailbox_event_pb2.Evidence(
        eid="BankID",
        level=mailbox_event_pb2.ASSURANCE_LEVEL_HIGH,
        agreed_time=time_ago(hours=1),
        agreed_text_sha256=bytes(range(32)),
    )
    return mailbox_event_pb2.EventDetails(
        sequence=sequence, occurred_time=time_ago(minutes=59), evidence=evidence
    )


def valid_requests(rpcs: Rpcs) -> Mapping[str, Valid]:
    """Bring an empty register to where each of these is answered OK, whichever is made first.

    Ola chose Digipost, whose delivery and message are leased; Kari has a mailbox at e-Boks
    that is not chosen; Niels is not registered.
    """
    fresh = _ola_chooses_digipost(rpcs)
    _kari_opens_a_mailbox_at_eboks(rpcs)
    delivery, message = _leased(rpcs)
    cursor = _ok(rpcs, "RegisterService/ListChanges", PUBLIC, register_service_pb2.ListChangesRequest())
    mailboxes = _ok(
        rpcs,
        "MailboxOperatorService/ListMailboxes",
        AT_EBOKS,
        mailbox_operator_service_pb2.ListMailboxesRequest(),
    )
    valid = {
        "RegisterService/LookUpPersons": Valid(
            PUBLIC,
            register_service_pb2.LookUpPersonsRequest(
                identifiers=[OLA], purpose=register_service_pb2.PURPOSE_NOTICE, at_least_as_fresh=fresh
            ),
        ),
        "RegisterService/LookUpPersonsStream": Valid(
            PUBLIC,
            register_service_pb2.LookUpPersonsStreamRequest(
                identifiers=[OLA], purpose=register_service_pb2.PURPOSE_NOTICE, at_least_as_fresh=fresh
            ),
        ),
        "RegisterService/ListChanges": Valid(
            PUBLIC,
            register_service_pb2.ListChangesRequest(after_cursor=cursor.cursor, page_size=10, wait=A_MOMENT),
        ),
        "RegisterService/WatchChanges": Valid(
            PUBLIC, register_service_pb2.WatchChangesRequest(after_cursor=cursor.cursor, page_size=10)
        ),
        "RegisterService/ListMailboxOperators": Valid(PUBLIC, certificate_pb2.ListMailboxOperatorsRequest()),
        "RegisterService/GetPrintCertificate": Valid(PUBLIC, certificate_pb2.GetPrintCertificateRequest()),
    }
    return (
        valid
        | {rpc: Valid(*valid) for rpc, valid in valid_citizen_requests(rpcs, fresh, LOG_IN_SERVICE).items()}
        | _of_operators(mailboxes.cursor)
        | _of_adapters(delivery, message)
        | _of_staff(delivery.delivery_id, message.message_id, _import_begun(rpcs))
        | _of_certificates(_print_certificate(rpcs))
        | {rpc: Valid(*valid) for rpc, valid in valid_sweep_requests(rpcs, ADMINISTRATOR).items()}
        | {rpc: Valid(*valid) for rpc, valid in valid_campaign_requests(rpcs, ADMINISTRATOR).items()}
    )


def _of_operators(cursor: str) -> dict[str, Valid]:
    pb = mailbox_operator_service_pb2
    of_kari: dict[str, Any] = {"event_id": request_id(), "identifier": KARI, "details": event_details()}
    content: dict[str, Any] = {"address": "kari.nordmann#1ABC", "certificate": certificate()}
    at_digipost = {**of_kari, **content}
    pushed = mailbox_event_pb2.MailboxEvent(**of_kari, create=mailbox_event_pb2.MailboxContent(**content))
    page: dict[str, Any] = {"after_cursor": cursor, "page_size": 10}
    return {
        f"MailboxOperatorService/{name}": Valid(caller, request)
        for name, caller, request in (
            ("MayChooseMailbox", AT_DIGIPOST, pb.MayChooseMailboxRequest(identifier=KARI)),
            ("CreateMailbox", AT_DIGIPOST, pb.CreateMailboxRequest(**at_digipost)),
            ("ChooseMailbox", AT_EBOKS, pb.MailboxOperatorServiceChooseMailboxRequest(**of_kari)),
            ("CreateAndChooseMailbox", AT_DIGIPOST, pb.CreateAndChooseMailboxRequest(**at_digipost)),
            ("UpdateMailbox", AT_EBOKS, pb.UpdateMailboxRequest(**of_kari, **content)),
            ("DeleteMailbox", AT_EBOKS, pb.DeleteMailboxRequest(**of_kari)),
            ("PushEvents", AT_DIGIPOST, pb.PushEventsRequest(events=[pushed])),
            ("ListMailboxes", AT_EBOKS, pb.ListMailboxesRequest(**page, wait=A_MOMENT)),
            ("WatchMailboxes", AT_EBOKS, pb.WatchMailboxesRequest(**page)),
        )
    }


def _of_adapters(delivery: Any, message: Any) -> dict[str, Valid]:
    pb = delivery_service_pb2
    later = pb.TryLater(delay=MINUTE, error_code="HTTP_503")
    return {
        f"DeliveryService/{name}": Valid(caller, request)
        for name, caller, request in (
            (
                "LeaseDeliveries",
                "adapter/digipost",
                pb.LeaseDeliveriesRequest(max_deliveries=10, lease_duration=MINUTE),
            ),
            (
                "FinishDelivery",
                "adapter/digipost",
                pb.FinishDeliveryRequest(
                    delivery_id=delivery.delivery_id, lease_token=delivery.lease_token, try_later=later
                ),
            ),
            (
                "LeaseMessages",
                "adapter/sms",
                pb.LeaseMessagesRequest(channel=pb.CHANNEL_SMS, max_messages=10, lease_duration=MINUTE),
            ),
            (
                "FinishMessage",
                "adapter/sms",
                pb.FinishMessageRequest(
                    message_id=message.message_id,
                    lease_token=message.lease_token,
                    sent=pb.MessageSent(gateway="LINK_MYLINK", gateway_message_id="4711"),
                ),
            ),
            (
                "RecordReceipt",
                "adapter/sms",
                pb.RecordReceiptRequest(
                    receipt_token=message.receipt_token, failed=pb.MessageFailed(error_code="EXPIRED")
                ),
            ),
        )
    }


def _of_staff(delivery_id: int, message_id: str, import_id: str) -> dict[str, Valid]:
    pb = admin_service_pb2
    long_ago = time_ago(days=30)
    contact: dict[str, Any] = {
        "updated_time": long_ago,
        "confirmed_time": time_ago(days=2),
        "validated_time": long_ago,
    }
    person = pb.PersonToLoad(
        identifier=next(people()),
        status=person_pb2.PERSON_STATUS_ACTIVE,
        reservation=person_pb2.RESERVATION_NOT_RESERVED,
        reservation_time=long_ago,
        language=person_pb2.LANGUAGE_NN,
        language_updated_time=long_ago,
        email=person_pb2.ContactPoint(value="loaded@example.com", usable_until_time=long_ago, **contact),
        mobile=person_pb2.ContactPoint(value="+4793456789", usable_until_time=long_ago, **contact),
        mailboxes=[
            person_pb2.Mailbox(
                operator_organisation_number=DIGIPOST, address="loaded#1234", certificate=certificate()
            )
        ],
        chosen_operator_organisation_number=DIGIPOST,
    )
    imported = pb.PersonToLoad()
    imported.CopyFrom(person)
    imported.identifier = next(islice(people(), 1, None))
    requests = {
        "LoadPersons": pb.LoadPersonsRequest(request_id=request_id(), persons=[person]),
        "ReplaceIdentifier": pb.ReplaceIdentifierRequest(
            request_id=request_id(), old_identifier=KARI, new_identifier=NIELS
        ),
        "DeletePerson": pb.AdminServiceDeletePersonRequest(
            request_id=request_id(), identifier=KARI, reason=person_pb2.DELETION_REASON_DEAD
        ),
        "ListDeliveries": pb.ListDeliveriesRequest(
            adapter="eboks", state=pb.DELIVERY_STATE_WAITING, min_failed_attempts=0, page_size=10
        ),
        "RetryDeliveries": pb.RetryDeliveriesRequest(request_id=request_id(), delivery_ids=[delivery_id]),
        "ListMessages": message_record_pb2.ListMessagesRequest(
            state=message_record_pb2.MESSAGE_STATE_QUEUED, change_number=2, page_size=10
        ),
        "RetryMessages": message_record_pb2.RetryMessagesRequest(
            request_id=request_id(), message_ids=[message_id]
        ),
        "ImportPersons": pb.ImportPersonsRequest(
            import_id=request_id(), rows=[pb.ImportRow(row=1, person=imported)], last=True
        ),
        "GetImport": person_import_pb2.GetImportRequest(import_id=import_id),
        "ListImportRejections": person_import_pb2.ListImportRejectionsRequest(
            import_id=import_id, page_size=10
        ),
        "GetStatistics": statistics_pb2.GetStatisticsRequest(),
    }
    return {f"AdminService/{name}": Valid(ADMINISTRATOR, request) for name, request in requests.items()}


def _of_certificates(certificate_id: int) -> dict[str, Valid]:
    pb = certificate_pb2
    requests = {
        "AddCertificate": pb.AddCertificateRequest(
            request_id=request_id(),
            use=pb.CERTIFICATE_USE_MAILBOX,
            organisation_number=DIGIPOST,
            certificate=organisation_certificate(DIGIPOST),
            use_from_time=time_ago(hours=1),
        ),
        "RetireCertificate": pb.RetireCertificateRequest(
            request_id=request_id(), certificate_id=certificate_id
        ),
        "ListCertificates": pb.ListCertificatesRequest(),
    }
    return {f"AdminService/{name}": Valid(ADMINISTRATOR, request) for name, request in requests.items()}


def _ola_chooses_digipost(rpcs: Rpcs) -> str:
    _ok(rpcs, "CitizenService/RegisterPerson", LOG_IN_SERVICE, register_request(OLA))
    pushed = _ok(
        rpcs,
        "MailboxOperatorService/CreateAndChooseMailbox",
        AT_DIGIPOST,
        mailbox_operator_service_pb2.CreateAndChooseMailboxRequest(
            event_id=request_id(), identifier=OLA, address="ola.nordmann#9YDT"
        ),
    )
    return str(pushed.answer.freshness_token)


def _kari_opens_a_mailbox_at_eboks(rpcs: Rpcs) -> None:
    _ok(
        rpcs,
        "CitizenService/RegisterPerson",
        LOG_IN_SERVICE,
        register_request(KARI, "kari@example.com", "92345678"),
    )
    _ok(
        rpcs,
        "MailboxOperatorService/CreateMailbox",
        AT_EBOKS,
        mailbox_operator_service_pb2.CreateMailboxRequest(
            event_id=request_id(), identifier=KARI, address="kari-nordmann-eboks"
        ),
    )


def _import_begun(rpcs: Rpcs) -> str:
    import_id = request_id()
    begin = admin_service_pb2.ImportPersonsRequest(import_id=import_id)
    _ok(rpcs, "AdminService/ImportPersons", ADMINISTRATOR, begin)
    return import_id


def _print_certificate(rpcs: Rpcs) -> int:
    request = certificate_pb2.AddCertificateRequest(
        request_id=request_id(),
        use=certificate_pb2.CERTIFICATE_USE_PRINT,
        organisation_number=PUBLIC_BODY,
        certificate=organisation_certificate(PUBLIC_BODY),
    )
    added = _ok(rpcs, "AdminService/AddCertificate", ADMINISTRATOR, request)
    return int(added.certificate.certificate_id)


def _leased(rpcs: Rpcs) -> tuple[Any, Any]:
    pb = delivery_service_pb2
    deliveries = _ok(
        rpcs,
        "DeliveryService/LeaseDeliveries",
        "adapter/digipost",
        pb.LeaseDeliveriesRequest(max_deliveries=1, lease_duration=MINUTE),
    )
    messages = _ok(
        rpcs,
        "DeliveryService/LeaseMessages",
        "adapter/sms",
        pb.LeaseMessagesRequest(channel=pb.CHANNEL_SMS, max_messages=1, lease_duration=MINUTE),
    )
    return deliveries.deliveries[0], messages.messages[0]


def _ok(rpcs: Rpcs, rpc: str, caller: str, request: Any) -> Any:
    outcome = rpcs.call(rpc, request, caller)
    assert outcome.response is not None, f"{rpc}: {outcome.code.name} {outcome.reason}"
    return outcome.response
