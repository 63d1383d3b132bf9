"""Certificates to which senders encrypt: see, enter and retire them."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from krr.v1 import certificate_pb2 as pb
from krr.v1 import person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from krr_cli.register import (
    ADMINISTRATOR,
    DEFAULT_REGISTER,
    AsJson,
    Register,
    RequestId,
    connected,
    request_id_or_new,
)
from krr_cli.show import again, name, operator_name, operator_number, print_json, print_table, time
from krr_cli.timestamp_text import set_timestamp

app = typer.Typer(no_args_is_help=True, help="See, enter and retire certificates of operators and for print.")


@app.command("list")
def list_certificates(register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """List all certificates that ever were, the last entered first."""
    with _admin(register) as admin:
        found = admin.ListCertificates(pb.ListCertificatesRequest())
    if as_json:
        print_json(found)
        return
    print_table(
        ["certificate", "use", "of", "state", "use from", "valid until", "retired", "changes", "SHA-256"],
        [_row(certificate) for certificate in found.certificates],
    )


@app.command()
def add(
    owner: Annotated[
        str, typer.Argument(metavar="OWNER", help="digipost, eboks or the organisation number of who it is.")
    ],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The certificate, DER or PEM.")],
    for_print: Annotated[
        bool, typer.Option("--print", help="For letters that are printed, not for the owner's mailboxes.")
    ] = False,
    use_from: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="When senders begin to use it, such as 2027-01-31T08:00:00Z; else at once."
        ),
    ] = "",
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Enter a certificate; earlier ones stay until they expire or are retired."""
    request = pb.AddCertificateRequest(
        request_id=request_id_or_new(request_id),
        use=pb.CERTIFICATE_USE_PRINT if for_print else pb.CERTIFICATE_USE_MAILBOX,
        organisation_number=operator_number(owner),
        certificate=_der(file.read_bytes()),
    )
    if use_from:
        try:
            set_timestamp(request.use_from_time, use_from)
        except ValueError:
            raise typer.BadParameter("--use-from is a time such as 2027-01-31T08:00:00Z") from None
    with _admin(register) as admin:
        _show(admin.AddCertificate(request), as_json)


@app.command()
def retire(
    certificate_id: Annotated[int, typer.Argument(metavar="CERTIFICATE", help="Which one, by its number.")],
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Take a certificate out of use at once and for ever."""
    request = pb.RetireCertificateRequest(
        request_id=request_id_or_new(request_id), certificate_id=certificate_id
    )
    with _admin(register) as admin:
        _show(admin.RetireCertificate(request), as_json)


@contextmanager
def _admin(register: str) -> Iterator[AdminServiceStub]:
    with connected(register, ADMINISTRATOR) as channel:
        yield AdminServiceStub(channel)


def _der(content: bytes) -> bytes:
    if not content.lstrip().startswith(b"-----BEGIN"):
        return content
    try:
        return ssl.PEM_cert_to_DER_cert(content.decode("ascii").strip())
    except ValueError:
        raise typer.BadParameter("the file is neither a certificate in DER nor one in PEM") from None


def _show(answer: pb.AddCertificateResponse | pb.RetireCertificateResponse, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    result = name(person_pb2.WriteResult, answer.result).lower()
    state = name(pb.CertificateState, answer.certificate.state)
    typer.echo(
        f"{result}; certificate {answer.certificate.certificate_id} is {state}{again(answer.duplicate)}"
    )


def _row(certificate: pb.Certificate) -> list[str]:
    numbers = (certificate.added_change_number, certificate.retired_change_number)
    return [
        str(certificate.certificate_id),
        name(pb.CertificateUse, certificate.use),
        operator_name(certificate.organisation_number),
        name(pb.CertificateState, certificate.state),
        time(certificate.use_from_time),
        time(certificate.valid_until_time),
        time(certificate.retired_time),
        ", ".join(str(number) for number in numbers if number),
        # As much as tells them apart; --json has all of it.
        certificate.sha256_fingerprint[:16],
    ]
