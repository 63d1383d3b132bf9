"""What an X.509 certificate says, read from its DER."""

import hashlib
from contextlib import suppress

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from server.domain.certificates import CertificateContent, KeyKind
from server.domain.errors import InvalidValue, Reason
from server.translate import MAX_CERTIFICATE_BYTES

_USAGES = ("key_encipherment", "data_encipherment", "key_agreement")
# Beside ValueError, of which they are not.
_MALFORMED = (x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


def read_certificate(der: bytes) -> CertificateContent:
    """Read a certificate. Its signature is not checked.

    Raises InvalidValue, for the field to be named: INVALID_CERTIFICATE.
    """
    if len(der) <= MAX_CERTIFICATE_BYTES:
        # The parts are parsed when they are asked for.
        with suppress(ValueError, *_MALFORMED):
            return _content(der, x509.load_der_x509_certificate(der))
    raise InvalidValue(Reason.INVALID_CERTIFICATE)


def _content(der: bytes, certificate: x509.Certificate) -> CertificateContent:
    kind, bits = _key(certificate)
    return CertificateContent(
        der=der,
        sha256=hashlib.sha256(der).digest(),
        key_kind=kind,
        key_bits=bits,
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
        usages=_usages(certificate),
        serial_numbers=_of_subject(certificate, x509.NameOID.SERIAL_NUMBER),
        organisation_identifiers=_of_subject(certificate, x509.NameOID.ORGANIZATION_IDENTIFIER),
    )


def _key(certificate: x509.Certificate) -> tuple[KeyKind, int]:
    with suppress(UnsupportedAlgorithm):
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            return KeyKind.RSA, key.key_size
        if isinstance(key, ec.EllipticCurvePublicKey):
            return KeyKind.EC, key.key_size
    return KeyKind.OTHER, 0


def _usages(certificate: x509.Certificate) -> frozenset[str] | None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return frozenset(name for name in _USAGES if getattr(usage, name))


def _of_subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid))
