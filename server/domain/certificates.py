"""Certificates to which senders encrypt: which may be entered, and which counts now."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum

from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import OrganisationNumber, parse_organisation_number

# NIST SP 800-57 part 1, table 2: 112 bits of security and more.
_LEAST_RSA_BITS = 2048
# One step above the least there (224), which no Norwegian issuer offers.
_LEAST_EC_BITS = 256

# Norwegian enterprise certificates (SEID 1): the number alone; ETSI EN 319 412-1 § 5.1.4, which
# SEID 2 follows: with the register that gave it.
_PREFIX = "NTRNO-"


class CertificateUse(StrEnum):
    """What senders encrypt to a certificate: letters to an operator's mailboxes, or for print."""

    MAILBOX = "MAILBOX"
    PRINT = "PRINT"


class CertificateState(Enum):
    """Where a certificate stands, as the contract says of each."""

    CURRENT = 1
    NEXT = 2
    PREVIOUS = 3
    EXPIRED = 4
    RETIRED = 5


class KeyKind(Enum):
    """The kinds of public key."""

    RSA = 1
    EC = 2
    OTHER = 3


@dataclass(frozen=True, kw_only=True)
class CertificateContent:
    """What a certificate says, read from its DER.

    valid_until: inclusive.
    usages: key usages that it allows, by the names of RFC 5280 § 4.2.1.3; None where it does
        not say, so that all are allowed.
    serial_numbers, organisation_identifiers: of the subject (2.5.4.5 and 2.5.4.97).
    """

    der: bytes
    sha256: bytes
    key_kind: KeyKind
    key_bits: int
    valid_from: datetime
    valid_until: datetime
    usages: frozenset[str] | None
    serial_numbers: tuple[str, ...]
    organisation_identifiers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Retirement:
    """That a certificate was retired: when, and by which change of certificates."""

    time: datetime
    change_number: int


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate of the register. valid_until is inclusive."""

    id: int
    use: CertificateUse
    organisation_number: OrganisationNumber
    der: bytes
    sha256: bytes
    valid_from: datetime
    valid_until: datetime
    use_from: datetime
    added_time: datetime
    added_change_number: int
    retirement: Retirement | None


# The print certificate is one for all, whoever prints.
Owner = OrganisationNumber | None


def owner_of(certificate: Certificate) -> Owner:
    """The mailbox operator; None for print."""
    return None if certificate.use is CertificateUse.PRINT else certificate.organisation_number


def check_content(
    content: CertificateContent, organisation_number: OrganisationNumber, now: datetime
) -> None:
    """Pass if senders can encrypt to the certificate and it is the organisation's.

    Raises InvalidValue, for the field to be named: CERTIFICATE_KEY_TOO_WEAK, CERTIFICATE_EXPIRED,
    CERTIFICATE_NOT_FOR_ENCRYPTION or CERTIFICATE_OF_ANOTHER.
    """
    least = {KeyKind.RSA: _LEAST_RSA_BITS, KeyKind.EC: _LEAST_EC_BITS}.get(content.key_kind)
    if least is None or content.key_bits < least:
        raise InvalidValue(Reason.CERTIFICATE_KEY_TOO_WEAK)
    if content.valid_until < now:
        raise InvalidValue(Reason.CERTIFICATE_EXPIRED)
    if content.usages is not None and not content.usages & _encrypting_usages(content.key_kind):
        raise InvalidValue(Reason.CERTIFICATE_NOT_FOR_ENCRYPTION)
    if _organisation_numbers(content) != {organisation_number}:
        raise InvalidValue(Reason.CERTIFICATE_OF_ANOTHER)


def use_from(content: CertificateContent, wanted: datetime | None, now: datetime) -> datetime:
    """When senders begin to encrypt to the certificate.

    wanted: None for at once, as is one that is past.

    Raises InvalidValue: INVALID_FIELD where it lies outside the certificate's validity.
    """
    if wanted is not None and not content.valid_from <= wanted <= content.valid_until:
        raise InvalidValue(Reason.INVALID_FIELD, description="a time within the validity of the certificate")
    return max(now, content.valid_from, wanted or now)


def states_of(certificates: Sequence[Certificate], now: datetime) -> dict[int, CertificateState]:
    """Where each stands now, by id.

    certificates: with all others of their owners that are not retired.
    """
    current: dict[Owner, Certificate] = {}
    # Of two that are used from the same moment, the one entered later.
    for each in sorted(certificates, key=lambda each: (each.use_from, each.id)):
        if each.retirement is None and each.use_from <= now <= each.valid_until:
            current[owner_of(each)] = each
    return {each.id: _state(each, current.get(owner_of(each)), now) for each in certificates}


def covered_until(certificates: Iterable[Certificate], now: datetime) -> dict[Owner, datetime]:
    """Until when each owner has a current certificate, without a gap from now on, if no other is
    entered; now itself for one that has none. Owners whose every certificate was retired are left
    out: the staff has done that.
    """
    ends: dict[Owner, datetime] = {}
    for each in sorted(certificates, key=lambda each: each.use_from):
        if each.retirement is None:
            end = ends.setdefault(owner_of(each), now)
            if each.use_from <= end:
                ends[owner_of(each)] = max(end, each.valid_until)
    return ends


def _state(certificate: Certificate, current: Certificate | None, now: datetime) -> CertificateState:
    if certificate.retirement:
        return CertificateState.RETIRED
    if certificate.valid_until < now:
        return CertificateState.EXPIRED
    if certificate.use_from > now:
        return CertificateState.NEXT
    return CertificateState.CURRENT if certificate is current else CertificateState.PREVIOUS


def _encrypting_usages(kind: KeyKind) -> frozenset[str]:
    # RFC 5652 § 6.2: the key of a letter is encrypted to an RSA key, or agreed on with an EC key.
    return frozenset({"key_agreement"} if kind is KeyKind.EC else {"key_encipherment", "data_encipherment"})


def _organisation_numbers(content: CertificateContent) -> set[OrganisationNumber]:
    texts = [
        *(text.removeprefix(_PREFIX) for text in content.serial_numbers),
        *(
            text.removeprefix(_PREFIX)
            for text in content.organisation_identifiers
            if text.startswith(_PREFIX)
        ),
    ]
    found = set()
    for text in texts:
        # A serial number may be of another kind, and then says nothing.
        with suppress(InvalidValue):
            found.add(parse_organisation_number(text))
    return found
