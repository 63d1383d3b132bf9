"""What a mailbox operator reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub

from krr_cli.register import (
    DEFAULT_REGISTER,
    REFUSED,
    AsJson,
    Register,
    RequestId,
    connected,
    request_id_or_new,
)
from krr_cli.show import again, name, operator_number, print_json

app = typer.Typer(no_args_is_help=True, help="Act as a mailbox operator.")

Operator = Annotated[
    str, typer.Argument(metavar="OPERATOR", help="digipost, eboks or an organisation number.")
]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="The person's identifier.")]
Address = Annotated[str, typer.Option(help="The mailbox address, 8 to 100 characters.")]


@app.command()
def may_choose(
    operator: Operator, identifier: Identifier, register: Register = DEFAULT_REGISTER, as_json: AsJson = False
) -> None:
    """Ask whether the person could choose a mailbox at this operator now."""
    with _operator(register, operator) as service:
        answer = service.MayChooseMailbox(pb.MayChooseMailboxRequest(identifier=identifier))
    if as_json:
        print_json(answer)
    else:
        typer.echo(name(pb.MailboxResult, answer.result))
    if answer.result != pb.MAILBOX_RESULT_MAY_CHOOSE:
        raise typer.Exit(REFUSED)


@app.command()
def create(
    operator: Operator,
    identifier: Identifier,
    address: Address,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Report that the person has a mailbox here, without choosing it."""
    request = pb.CreateMailboxRequest(
        event_id=request_id_or_new(request_id), identifier=identifier, address=address
    )
    with _operator(register, operator) as service:
        _show(service.CreateMailbox(request).answer, as_json)


@app.command()
def choose(
    operator: Operator,
    identifier: Identifier,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Report that the person chose the mailbox here."""
    request = pb.MailboxOperatorServiceChooseMailboxRequest(
        event_id=request_id_or_new(request_id), identifier=identifier
    )
    with _operator(register, operator) as service:
        _show(service.ChooseMailbox(request).answer, as_json)


@app.command()
def create_and_choose(
    operator: Operator,
    identifier: Identifier,
    address: Address,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Report both in one step."""
    request = pb.CreateAndChooseMailboxRequest(
        event_id=request_id_or_new(request_id), identifier=identifier, address=address
    )
    with _operator(register, operator) as service:
        _show(service.CreateAndChooseMailbox(request).answer, as_json)


@app.command()
def update(
    operator: Operator,
    identifier: Identifier,
    address: Address,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Report that the person's mailbox here has another address."""
    request = pb.UpdateMailboxRequest(
        event_id=request_id_or_new(request_id), identifier=identifier, address=address
    )
    with _operator(register, operator) as service:
        _show(service.UpdateMailbox(request).answer, as_json)


@app.command()
def delete(
    operator: Operator,
    identifier: Identifier,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Report that the person's mailbox here is gone."""
    request = pb.DeleteMailboxRequest(event_id=request_id_or_new(request_id), identifier=identifier)
    with _operator(register, operator) as service:
        _show(service.DeleteMailbox(request).answer, as_json)


@contextmanager
def _operator(register: str, operator: str) -> Iterator[MailboxOperatorServiceStub]:
    with connected(register, f"Development operator/{operator_number(operator)}") as channel:
        yield MailboxOperatorServiceStub(channel)


def _show(answer: pb.MailboxAnswer, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        number = f"; change number {answer.change_number}" if answer.change_number else ""
        typer.echo(f"{name(pb.MailboxResult, answer.result)}{number}{again(answer.duplicate)}")
    if answer.result != pb.MAILBOX_RESULT_OK:
        raise typer.Exit(REFUSED)
