"""Self-made certificates of organisations."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

DAY = timedelta(days=1)


@lru_cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """An RSA key, the same one each time: to make one takes long."""
    return rsa.generate_private_key(65537, bits)


@lru_cache
def ec_key(bits: int = 256) -> ec.EllipticCurvePrivateKey:
    """An EC key, the same one each time."""
    curves: dict[int, ec.EllipticCurve] = {224: ec.SECP224R1(), 256: ec.SECP256R1(), 521: ec.SECP521R1()}
    return ec.generate_private_key(curves[bits])


def key_usage(*usages: str) -> x509.KeyUsage:
    """The extension that allows these usages."""
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in usages for name in names})


def organisation_certificate(
    organisation_number: str,
    key: Key | None = None,
    *,
    valid_from: datetime | None = None,
    valid_for: timedelta = 365 * DAY,
    usage: x509.KeyUsage | None = None,
    subject: Sequence[tuple[x509.ObjectIdentifier, str]] | None = None,
) -> bytes:
    """The DER of a certificate, another one each time.

    valid_from: a day ago unless given.
    subject: attributes in place of the organisation number as organizationIdentifier.
    """
    key = key or ec_key()
    begins = (valid_from or datetime.now(UTC) - DAY).replace(microsecond=0)
    named = subject if subject is not None else [identified(f"NTRNO-{organisation_number}")]
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "test"),
            *(x509.NameAttribute(oid, value) for oid, value in named),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + valid_for)
    )
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


def numbered(text: str) -> tuple[x509.ObjectIdentifier, str]:
    """The attribute serialNumber of a subject."""
    return NameOID.SERIAL_NUMBER, text


def identified(text: str) -> tuple[x509.ObjectIdentifier, str]:
    """The attribute organizationIdentifier of a subject."""
    return NameOID.ORGANIZATION_IDENTIFIER, text
