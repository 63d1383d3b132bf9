"""Keys and secrets that a sandbox makes on its first start: for synthetic traffic on one machine only."""

import os
import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

_THIS_MACHINE = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]


def secret(file: Path) -> str:
    """The secret in the file, for the adapter to read too; made where there is none."""
    if not file.exists():
        _write(file, secrets.token_urlsafe(32).encode())
    return file.read_text("ascii").strip()


def private_key(file: Path) -> rsa.RSAPrivateKey:
    """The RSA key in the file, in PEM; made where there is none."""
    if not file.exists():
        made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        _write(file, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = load_pem_private_key(file.read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def certificate_pem(file: Path, key: rsa.RSAPrivateKey, common_name: str) -> str:
    """The key's certificate in the file, in PEM; made, and signed by itself, where there is none."""
    if not file.exists():
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.SubjectAlternativeName(_THIS_MACHINE), critical=False)
            .sign(key, SHA256())
        )
        _write(file, made.public_bytes(Encoding.PEM))
    return file.read_text()


def _write(file: Path, content: bytes) -> None:
    """Whole or not at all, and for nobody else to read at any moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(file)
