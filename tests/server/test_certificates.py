"""Certificates to which senders encrypt: entered with checks, followed without a gap, never forgotten."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from krr.v1 import certificate_pb2 as pb
from krr.v1 import person_pb2, register_service_pb2
from krr_client import RegisterError

from server.certificate_content import read_certificate
from server.domain.errors import InvalidValue, Reason
from tests.certificates import (
    DAY,
    Key,
    ec_key,
    identified,
    key_usage,
    numbered,
    organisation_certificate,
    rsa_key,
)
from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, PUBLIC_BODY, request_id

MAILBOX, PRINT = pb.CERTIFICATE_USE_MAILBOX, pb.CERTIFICATE_USE_PRINT
CURRENT, NEXT = pb.CERTIFICATE_STATE_CURRENT, pb.CERTIFICATE_STATE_NEXT
PREVIOUS, EXPIRED = pb.CERTIFICATE_STATE_PREVIOUS, pb.CERTIFICATE_STATE_EXPIRED
CHANGED, UNCHANGED = person_pb2.WRITE_RESULT_CHANGED, person_pb2.WRITE_RESULT_UNCHANGED
HOUR = timedelta(hours=1)


def timestamp(time: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(time)
    return found


def in_future(span: timedelta) -> Timestamp:
    return timestamp(datetime.now(UTC) + span)


def request(organisation: str = DIGIPOST, der: bytes | None = None, **fields: Any) -> Any:
    given: dict[str, Any] = {
        "request_id": request_id(),
        "use": MAILBOX,
        "organisation_number": organisation,
        "certificate": der or organisation_certificate(organisation),
    }
    return pb.AddCertificateRequest(**given | fields)


def add(register: Register, *arguments: Any, **fields: Any) -> pb.AddCertificateResponse:
    return register.as_administrator().AddCertificate(request(*arguments, **fields))


def retire(register: Register, certificate_id: int) -> pb.RetireCertificateResponse:
    asked = pb.RetireCertificateRequest(request_id=request_id(), certificate_id=certificate_id)
    return register.as_administrator().RetireCertificate(asked)


def operators(register: Register) -> dict[str, pb.MailboxOperator]:
    listed = register.as_public_body().ListMailboxOperators(pb.ListMailboxOperatorsRequest())
    return {operator.organisation_number: operator for operator in listed.operators}


def of_digipost(register: Register) -> list[tuple[int, int]]:
    return [(each.certificate_id, each.state) for each in operators(register)[DIGIPOST].certificates]


def for_print(register: Register) -> pb.GetPrintCertificateResponse:
    return register.as_public_body().GetPrintCertificate(pb.GetPrintCertificateRequest())


def all_certificates(register: Register) -> pb.ListCertificatesResponse:
    return register.as_administrator().ListCertificates(pb.ListCertificatesRequest())


def last_number(register: Register) -> int:
    asked = pb.ListMailboxOperatorsRequest()
    numbers = {
        register.as_public_body().ListMailboxOperators(asked).certificate_change_number,
        for_print(register).certificate_change_number,
        all_certificates(register).certificate_change_number,
    }
    [number] = numbers
    return number


def refused(register: Register, *arguments: Any, **fields: Any) -> str:
    with pytest.raises(RegisterError) as error:
        add(register, *arguments, **fields)
    assert last_number(register) == 0
    return error.value.reason


def test_an_operator_without_a_certificate_is_listed_all_the_same(register: Register) -> None:
    listed = operators(register)

    assert {number: each.name for number, each in listed.items()} == {DIGIPOST: "Digipost", EBOKS: "e-Boks"}
    assert not any(each.certificates for each in listed.values())
    assert not for_print(register).certificates
    assert last_number(register) == 0


def test_a_certificate_that_was_entered_is_what_senders_encrypt_to_at_once(register: Register) -> None:
    der = organisation_certificate(DIGIPOST)
    before = datetime.now(UTC)

    added = add(register, DIGIPOST, der)

    assert (added.result, added.certificate_change_number, added.duplicate) == (CHANGED, 1, False)
    [found] = operators(register)[DIGIPOST].certificates
    assert found == added.certificate
    assert (found.certificate, found.state, found.use) == (der, CURRENT, MAILBOX)
    assert found.sha256_fingerprint == hashlib.sha256(der).hexdigest()
    assert before <= found.use_from_time.ToDatetime(UTC) <= datetime.now(UTC)
    content = read_certificate(der)
    assert found.valid_from_time.ToDatetime(UTC) == content.valid_from
    assert found.valid_until_time.ToDatetime(UTC) == content.valid_until
    assert not operators(register)[EBOKS].certificates
    assert not for_print(register).certificates


def test_the_same_certificate_again_changes_nothing(register: Register) -> None:
    der = organisation_certificate(DIGIPOST)
    first = add(register, DIGIPOST, der)

    again = add(register, DIGIPOST, der, use_from_time=in_future(HOUR))

    assert (again.result, again.certificate_change_number, again.duplicate) == (UNCHANGED, 1, False)
    assert again.certificate == first.certificate
    assert last_number(register) == 1


def test_a_repeated_request_gets_its_first_answer(register: Register) -> None:
    asked = request()
    first = register.as_administrator().AddCertificate(asked)
    retired = retire(register, first.certificate.certificate_id)

    again = register.as_administrator().AddCertificate(asked)

    assert (again.result, again.certificate_change_number, again.duplicate) == (CHANGED, 1, True)
    assert again.certificate == retired.certificate
    assert last_number(register) == 2


def test_a_request_id_is_for_one_request(register: Register) -> None:
    first = request()
    register.as_administrator().AddCertificate(first)

    with pytest.raises(RegisterError) as error:
        add(register, request_id=first.request_id)

    assert error.value.reason == "REQUEST_ID_REUSED"


def test_one_certificate_follows_another_as_time_passes(
    register: Register, database: "psycopg.Connection[Any]"
) -> None:
    old = add(register).certificate.certificate_id
    follows = add(register, use_from_time=in_future(HOUR)).certificate.certificate_id
    assert of_digipost(register) == [(follows, NEXT), (old, CURRENT)]

    pass_time(database, 2 * HOUR)
    assert of_digipost(register) == [(follows, CURRENT), (old, PREVIOUS)]
    assert last_number(register) == 2

    pass_time(database, 400 * DAY)
    assert of_digipost(register) == []
    assert [each.state for each in all_certificates(register).certificates] == [EXPIRED, EXPIRED]


def pass_time(database: "psycopg.Connection[Any]", span: timedelta) -> None:
    """What the register holds of certificates is so much older."""
    database.execute(
        "UPDATE certificate SET valid_from_time = valid_from_time - %(span)s, "
        "valid_until_time = valid_until_time - %(span)s, use_from_time = use_from_time - %(span)s",
        {"span": span},
    )


def test_the_newer_of_two_counts_and_the_older_one_again_when_that_is_retired(register: Register) -> None:
    older = add(register).certificate.certificate_id
    newer = add(register).certificate.certificate_id
    assert of_digipost(register) == [(newer, CURRENT), (older, PREVIOUS)]

    retire(register, newer)

    assert of_digipost(register) == [(older, CURRENT)]


def test_a_retired_certificate_stays_in_the_history_and_does_not_come_back(register: Register) -> None:
    der = organisation_certificate(DIGIPOST)
    certificate_id = add(register, DIGIPOST, der).certificate.certificate_id

    retired = retire(register, certificate_id)
    again = retire(register, certificate_id)

    assert (retired.result, retired.certificate_change_number) == (CHANGED, 2)
    assert (again.result, again.certificate_change_number) == (UNCHANGED, 2)
    assert not operators(register)[DIGIPOST].certificates
    [kept] = all_certificates(register).certificates
    assert kept == again.certificate
    assert kept.state == pb.CERTIFICATE_STATE_RETIRED
    assert (kept.certificate, kept.added_change_number, kept.retired_change_number) == (der, 1, 2)
    assert kept.HasField("retired_time")
    with pytest.raises(RegisterError) as error:
        add(register, DIGIPOST, der)
    assert error.value.reason == "CERTIFICATE_RETIRED"
    assert last_number(register) == 2


def test_a_certificate_that_nobody_entered_cannot_be_retired(register: Register) -> None:
    with pytest.raises(RegisterError) as error:
        retire(register, 4711)

    assert error.value.reason == "UNKNOWN_CERTIFICATE"


def test_the_print_certificate_is_one_for_all_who_print(register: Register) -> None:
    der = organisation_certificate(DIGIPOST)
    first = add(register, DIGIPOST, der, use=PRINT).certificate.certificate_id
    second = add(register, PUBLIC_BODY, use=PRINT).certificate.certificate_id

    found = for_print(register).certificates

    assert [(each.certificate_id, each.organisation_number, each.state) for each in found] == [
        (second, PUBLIC_BODY, CURRENT),
        (first, DIGIPOST, PREVIOUS),
    ]
    assert not operators(register)[DIGIPOST].certificates
    # The same one may be an operator's too, and is another object then.
    assert add(register, DIGIPOST, der).result == CHANGED
    assert [each.certificate_id for each in all_certificates(register).certificates][1:] == [second, first]


def test_a_change_of_certificates_is_no_change_of_persons(register: Register) -> None:
    feed = register.as_public_body().ListChanges(register_service_pb2.ListChangesRequest())

    add(register)

    page = register.as_public_body().ListChanges(
        register_service_pb2.ListChangesRequest(after_cursor=feed.cursor)
    )
    assert (page.cursor, list(page.persons)) == (feed.cursor, [])


@pytest.mark.parametrize("key", [rsa_key, ec_key])
@pytest.mark.parametrize("subject", [numbered(DIGIPOST), identified(f"NTRNO-{DIGIPOST}")])
def test_certificates_as_norwegian_issuers_make_them_are_taken(
    register: Register, key: Callable[[], Key], subject: Any
) -> None:
    usages = ("digital_signature", "key_encipherment" if key is rsa_key else "key_agreement")
    der = organisation_certificate(DIGIPOST, key(), usage=key_usage(*usages), subject=[subject])

    assert add(register, DIGIPOST, der).result == CHANGED


def test_a_certificate_that_nobody_should_encrypt_to_is_refused(register: Register) -> None:
    long_ago = datetime.now(UTC) - 100 * DAY
    signing = key_usage("digital_signature", "content_commitment")
    for der, reason in (
        (b"no certificate", "INVALID_CERTIFICATE"),
        (organisation_certificate(DIGIPOST)[:-1], "INVALID_CERTIFICATE"),
        (organisation_certificate(DIGIPOST, rsa_key(1024)), "CERTIFICATE_KEY_TOO_WEAK"),
        (organisation_certificate(DIGIPOST, ec_key(224)), "CERTIFICATE_KEY_TOO_WEAK"),
        (
            organisation_certificate(DIGIPOST, ed25519.Ed25519PrivateKey.generate()),
            "CERTIFICATE_KEY_TOO_WEAK",
        ),
        (
            organisation_certificate(DIGIPOST, valid_from=long_ago, valid_for=99 * DAY),
            "CERTIFICATE_EXPIRED",
        ),
        (organisation_certificate(DIGIPOST, rsa_key(), usage=signing), "CERTIFICATE_NOT_FOR_ENCRYPTION"),
        (organisation_certificate(DIGIPOST, ec_key(), usage=signing), "CERTIFICATE_NOT_FOR_ENCRYPTION"),
        (organisation_certificate(EBOKS), "CERTIFICATE_OF_ANOTHER"),
        (organisation_certificate(DIGIPOST, subject=[]), "CERTIFICATE_OF_ANOTHER"),
    ):
        assert refused(register, DIGIPOST, der) == reason
        assert refused(register, DIGIPOST, der, use=PRINT) == reason


def test_only_an_operator_has_a_certificate_for_mailboxes_and_only_an_organisation_prints(
    register: Register,
) -> None:
    assert refused(register, PUBLIC_BODY) == "UNKNOWN_OPERATOR"
    assert refused(register, "984661186", use=PRINT) == "INVALID_ORGANISATION_NUMBER"
    assert refused(register, use=pb.CERTIFICATE_USE_UNSPECIFIED) == "INVALID_FIELD"


def test_a_use_outside_the_validity_is_refused(register: Register) -> None:
    assert refused(register, use_from_time=in_future(366 * DAY)) == "INVALID_FIELD"
    assert refused(register, use_from_time=in_future(-2 * DAY)) == "INVALID_FIELD"


def test_a_certificate_that_is_not_valid_yet_is_used_from_when_it_is(register: Register) -> None:
    der = organisation_certificate(DIGIPOST, valid_from=datetime.now(UTC) + DAY)

    added = add(register, DIGIPOST, der).certificate

    assert (added.state, added.use_from_time) == (NEXT, added.valid_from_time)


DER = organisation_certificate(DIGIPOST, usage=key_usage("key_agreement"), subject=[numbered(DIGIPOST)])


@given(st.integers(0, len(DER) - 1), st.integers(0, 255), st.booleans())
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_spoilt_certificate_is_read_or_refused_and_never_a_fault(at: int, byte: int, cut: bool) -> None:
    der = DER[:at] if cut else DER[:at] + bytes([byte]) + DER[at + 1 :]
    try:
        content = read_certificate(der)
    except InvalidValue as invalid:
        assert invalid.reason is Reason.INVALID_CERTIFICATE
    else:
        assert content.der == der
