"""What the services do with certificates to which senders encrypt."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import certificate_pb2 as pb
from krr.v1 import person_pb2

from server import translate
from server.call import Call
from server.certificate_content import read_certificate
from server.domain import certificates as rules
from server.domain.certificates import Certificate, CertificateState, CertificateUse
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import OrganisationNumber, parse_organisation_number
from server.store import certificates
from server.store.store import Store
from server.store.transaction import Answer, Reader, Transaction

_USE_VALUES = {use: pb.CertificateUse.Value(f"CERTIFICATE_USE_{use}") for use in CertificateUse}
_USES: Mapping[int, CertificateUse] = {value: use for use, value in _USE_VALUES.items()}
_STATE_VALUES = {
    state: pb.CertificateState.Value(f"CERTIFICATE_STATE_{state.name}") for state in CertificateState
}
_NANOS = 10**9
_LISTED = (CertificateState.CURRENT, CertificateState.NEXT, CertificateState.PREVIOUS)


def list_mailbox_operators(store: Store, call: Call, now: datetime) -> pb.ListMailboxOperatorsResponse:
    """The mailbox operators with their certificates. Raises Refusal as Store.read does."""

    def read(reader: Reader) -> pb.ListMailboxOperatorsResponse:
        # The number first: what follows is of that change or a later one, so that whoever compares
        # numbers reads too often rather than misses one.
        number = certificates.last_change(reader)
        listed = _listed(certificates.unretired(reader, CertificateUse.MAILBOX), now)
        return pb.ListMailboxOperatorsResponse(
            operators=[
                pb.MailboxOperator(
                    organisation_number=operator,
                    name=name,
                    certificates=[each for each in listed if each.organisation_number == operator],
                )
                for operator, name in certificates.operators(reader)
            ],
            certificate_change_number=number,
        )

    return store.read(read, deadline=call.deadline)


def get_print_certificate(store: Store, call: Call, now: datetime) -> pb.GetPrintCertificateResponse:
    """The print certificates. Raises Refusal as Store.read does."""

    def read(reader: Reader) -> pb.GetPrintCertificateResponse:
        # The number first, as above.
        number = certificates.last_change(reader)
        return pb.GetPrintCertificateResponse(
            certificates=_listed(certificates.unretired(reader, CertificateUse.PRINT), now),
            certificate_change_number=number,
        )

    return store.read(read, deadline=call.deadline)


def list_certificates(store: Store, call: Call, now: datetime) -> pb.ListCertificatesResponse:
    """All certificates that ever were. Raises Refusal as Store.read does."""

    def read(reader: Reader) -> pb.ListCertificatesResponse:
        number = certificates.last_change(reader)
        found = certificates.all_certificates(reader)
        states = rules.states_of(found, now)
        return pb.ListCertificatesResponse(
            certificates=[_certificate_to(each, states[each.id]) for each in reversed(found)],
            certificate_change_number=number,
        )

    return store.read(read, deadline=call.deadline)


def add_certificate(
    request: pb.AddCertificateRequest, store: Store, call: Call, now: datetime
) -> pb.AddCertificateResponse:
    """Enter a certificate.

    Raises InvalidValue: INVALID_CERTIFICATE, INVALID_ORGANISATION_NUMBER, UNKNOWN_OPERATOR,
    INVALID_FIELD, INVALID_REQUEST_ID, or as check_content does; Refusal: CERTIFICATE_RETIRED, or as
    Store.write does.
    """
    use = _use_from(request.use)
    owner = _owner_from(request.organisation_number, use, store.operators)
    with _field("certificate"):
        content = read_certificate(request.certificate)
    wanted = _time_from(request.use_from_time) if request.HasField("use_from_time") else None

    def do(transaction: Transaction) -> Answer:
        # Here, and not above: a repeated request gets its first answer also when the certificate has
        # expired since.
        with _field("certificate"):
            rules.check_content(content, owner, now)
        with _field("use_from_time"):
            use_from = rules.use_from(content, wanted, now)
        return certificates.add(transaction, content, use, owner, use_from, now)

    answer = store.write(
        call.caller,
        do,
        deadline=call.deadline,
        request=translate.write_request(request, request.request_id),
    )
    return pb.AddCertificateResponse(
        result=_result_to(answer),
        certificate_change_number=answer.change_number,
        certificate=_read_one(
            store, call, now, lambda reader: certificates.find(reader, use, content.sha256)
        ),
        duplicate=answer.duplicate,
    )


def retire_certificate(
    request: pb.RetireCertificateRequest, store: Store, call: Call, now: datetime
) -> pb.RetireCertificateResponse:
    """Retire a certificate.

    Raises InvalidValue: INVALID_REQUEST_ID; Refusal: UNKNOWN_CERTIFICATE, or as Store.write does.
    """
    certificate_id = request.certificate_id
    answer = store.write(
        call.caller,
        lambda transaction: certificates.retire(transaction, certificate_id, now),
        deadline=call.deadline,
        request=translate.write_request(request, request.request_id),
    )
    return pb.RetireCertificateResponse(
        result=_result_to(answer),
        certificate_change_number=answer.change_number,
        certificate=_read_one(store, call, now, lambda reader: certificates.get(reader, certificate_id)),
        duplicate=answer.duplicate,
    )


def _listed(found: Sequence[Certificate], now: datetime) -> list[pb.Certificate]:
    states = rules.states_of(found, now)
    latest_first = sorted(found, key=lambda each: (each.use_from, each.id), reverse=True)
    return [_certificate_to(each, states[each.id]) for each in latest_first if states[each.id] in _LISTED]


def _read_one(
    store: Store, call: Call, now: datetime, find: Callable[[Reader], Certificate | None]
) -> pb.Certificate:
    """The certificate as it stands now; it is there, as none is ever deleted."""

    def read(reader: Reader) -> pb.Certificate:
        found = find(reader)
        assert found is not None
        others = [each for each in certificates.unretired(reader, found.use) if each.id != found.id]
        return _certificate_to(found, rules.states_of([found, *others], now)[found.id])

    return store.read(read, deadline=call.deadline)


@contextmanager
def _field(name: str) -> Iterator[None]:
    """A refusal from within names the field."""
    try:
        yield
    except InvalidValue as invalid:
        invalid.field = name
        raise


def _use_from(value: int) -> CertificateUse:
    if value not in _USES:
        raise InvalidValue(Reason.INVALID_FIELD, "use", "a use of the contract")
    return _USES[value]


def _owner_from(
    text: str, use: CertificateUse, operators: frozenset[OrganisationNumber]
) -> OrganisationNumber:
    if use is CertificateUse.MAILBOX:
        return translate.operator_from("organisation_number", text, operators)
    return translate.named_field("organisation_number", parse_organisation_number, text)


def _time_from(timestamp: Timestamp) -> datetime:
    # ToDatetime wraps nanoseconds that are too many.
    if 0 <= timestamp.nanos < _NANOS:
        with suppress(ValueError, OverflowError):
            return timestamp.ToDatetime(UTC)
    raise InvalidValue(Reason.INVALID_FIELD, "use_from_time", "a time")


def _result_to(answer: Answer) -> "person_pb2.WriteResult.ValueType":
    return person_pb2.WriteResult.Value(f"WRITE_RESULT_{answer.result}")


def _certificate_to(certificate: Certificate, state: CertificateState) -> pb.Certificate:
    retirement = certificate.retirement
    return pb.Certificate(
        certificate_id=certificate.id,
        use=_USE_VALUES[certificate.use],
        organisation_number=certificate.organisation_number,
        certificate=certificate.der,
        sha256_fingerprint=certificate.sha256.hex(),
        valid_from_time=translate.time_to(certificate.valid_from),
        valid_until_time=translate.time_to(certificate.valid_until),
        use_from_time=translate.time_to(certificate.use_from),
        state=_STATE_VALUES[state],
        added_time=translate.time_to(certificate.added_time),
        added_change_number=certificate.added_change_number,
        retired_time=translate.time_to(retirement.time) if retirement else None,
        retired_change_number=retirement.change_number if retirement else 0,
    )
