"""Certificates for a register to try: self-made, of the operators of the sandbox."""

import uuid
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from krr.v1 import certificate_pb2 as pb
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from krr_cli.show import OPERATORS

_VALID_FOR = timedelta(days=2 * 365)
# Who prints in the sandbox, as in the register that it is modelled on.
_PRINTS = OPERATORS["digipost"]


def enter_certificates(admin: AdminServiceStub) -> None:
    """Enter one for each operator and one for print, where the register has none."""
    found = admin.ListCertificates(pb.ListCertificatesRequest()).certificates
    present = {(each.use, each.organisation_number) for each in found}
    wanted = [(pb.CERTIFICATE_USE_MAILBOX, number) for number in OPERATORS.values()]
    for use, number in (*wanted, (pb.CERTIFICATE_USE_PRINT, _PRINTS)):
        if (use, number) not in present:
            admin.AddCertificate(
                pb.AddCertificateRequest(
                    request_id=str(uuid.uuid4()),
                    use=use,
                    organisation_number=number,
                    certificate=_certificate(number),
                )
            )


def _certificate(organisation_number: str) -> bytes:
    # Nobody decrypts anything here, so the key is not kept.
    key = rsa.generate_private_key(65537, 2048)
    attributes = {
        x509.NameOID.COMMON_NAME: "Sandbox",
        x509.NameOID.ORGANIZATION_IDENTIFIER: f"NTRNO-{organisation_number}",
    }
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes.items()])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _VALID_FOR)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
