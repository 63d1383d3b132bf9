"""What the register's own staff does: load, replace and erase persons, see and retry deliveries and
messages.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import delivery_service_pb2, message_record_pb2, person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from rich.console import Console
from rich.progress import Progress

from krr_cli.pages import collect_pages
from krr_cli.persons_to_load import NotAPerson, load_persons, persons_in
from krr_cli.register import (
    ADMINISTRATOR,
    DEFAULT_REGISTER,
    AsJson,
    Register,
    RequestId,
    connected,
    request_id_or_new,
)
from krr_cli.show import again, name, print_json, print_table, print_write, time

app = typer.Typer()
deliveries = typer.Typer(no_args_is_help=True, help="See and retry what operators have yet to be told.")
messages = typer.Typer(no_args_is_help=True, help="See and retry messages to citizens.")

_LOAD_SECONDS = 60.0

Limit = Annotated[int, typer.Option(min=1, help="How many at most.")]


class Reason(StrEnum):
    OWN_CHOICE = "own-choice"
    DEAD = "dead"
    EXPIRED_IDENTITY = "expired-identity"
    NEW_IDENTITY = "new-identity"
    DISAPPEARED = "disappeared"


class DeliveryState(StrEnum):
    WAITING = "waiting"
    REFUSED = "refused"


class MessageState(StrEnum):
    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    SUPERSEDED = "superseded"


@app.command()
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A person of JSON per line.")],
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Load a few persons, 1000 per call; those already there are left alone, so a load can be repeated.

    A line is a krr.v1.PersonToLoad as JSON. "age_days" in it says how many days ago the times
    were that the line leaves out. One line that is wrong refuses all of its call. For millions,
    for CSV and for a report of the lines that are wrong there is `krr import`.
    """
    loaded = total = 0
    with (
        Progress(console=Console(stderr=True), transient=True) as progress,
        connected(register, ADMINISTRATOR, timeout=_LOAD_SECONDS) as channel,
    ):
        task = progress.add_task("loading", total=file.stat().st_size)
        try:
            for batch in persons_in(file, lambda length: progress.advance(task, length)):
                loaded += load_persons(AdminServiceStub(channel), batch)
                total += len(batch)
        except NotAPerson as error:
            raise typer.BadParameter(str(error)) from None
    if as_json:
        print_json(pb.LoadPersonsResponse(loaded_count=loaded))
    else:
        typer.echo(f"{loaded} loaded, {total - loaded} were there already")


@app.command()
def replace_identifier(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The identifier that ends.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The identifier that replaces it.")],
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Move all that the register holds of a person to another identifier of the same person.

    The old identifier is deleted, with reason NEW_IDENTITY. Operators are told, the person is not.
    """
    request = pb.ReplaceIdentifierRequest(
        request_id=request_id_or_new(request_id), old_identifier=old, new_identifier=new
    )
    with _admin(register) as admin:
        print_write(admin.ReplaceIdentifier(request).answer, as_json)


@app.command()
def erase(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The person's identifier.")],
    reason: Annotated[Reason, typer.Option(help="Why.")],
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Delete a person from the register, for a reason.

    dead, expired-identity and new-identity end a reservation too; after the others a reserved
    person stays in the register, reserved and with nothing else.
    """
    request = pb.AdminServiceDeletePersonRequest(
        request_id=request_id_or_new(request_id),
        identifier=identifier,
        reason=person_pb2.DeletionReason.Value(f"DELETION_REASON_{reason.upper().replace('-', '_')}"),
    )
    with _admin(register) as admin:
        print_write(admin.DeletePerson(request).answer, as_json)


@deliveries.command("list")
def list_deliveries(
    adapter: Annotated[str, typer.Option(help="Only this adapter's.")] = "",
    state: Annotated[DeliveryState | None, typer.Option(help="Only in this state.")] = None,
    min_failed_attempts: Annotated[int, typer.Option(min=0, help="Only those that failed so often.")] = 0,
    limit: Limit = 100,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """List deliveries that wait or were refused, oldest first."""
    wanted = pb.DeliveryState.Value(f"DELIVERY_STATE_{(state or 'unspecified').upper()}")
    found = pb.ListDeliveriesResponse()

    def add_page(admin: AdminServiceStub, size: int, token: str) -> str:
        request = pb.ListDeliveriesRequest(
            adapter=adapter,
            state=wanted,
            min_failed_attempts=min_failed_attempts,
            page_size=size,
            page_token=token,
        )
        page = admin.ListDeliveries(request)
        found.deliveries.extend(page.deliveries)
        return page.next_page_token

    with _admin(register) as admin:
        collect_pages(lambda size, token: add_page(admin, size, token), lambda: limit - len(found.deliveries))
    if as_json:
        print_json(found)
        return
    columns = [
        "delivery",
        "adapter",
        "state",
        "change",
        "failed",
        "last error",
        "since",
        "not before",
        "trace",
    ]
    print_table(columns, [_delivery_row(delivery) for delivery in found.deliveries])


@deliveries.command("retry")
def retry_deliveries(
    delivery_ids: Annotated[
        list[int] | None, typer.Argument(metavar="[DELIVERY]...", help="Which ones.")
    ] = None,
    adapter: Annotated[str, typer.Option(help="Every refused one of this adapter.")] = "",
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Make deliveries due at once, attempts counted anew."""
    if bool(delivery_ids) == bool(adapter):
        raise typer.BadParameter("name either deliveries or an --adapter")
    request = pb.RetryDeliveriesRequest(
        request_id=request_id_or_new(request_id), delivery_ids=delivery_ids or (), adapter=adapter
    )
    with _admin(register) as admin:
        _show_retried(admin.RetryDeliveries(request), as_json)


@messages.command("list")
def list_messages(
    state: Annotated[MessageState | None, typer.Option(help="Only in this state.")] = None,
    change_number: Annotated[int, typer.Option(help="Only the one that this change caused.")] = 0,
    limit: Limit = 100,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """List messages, newest first."""
    wanted = message_record_pb2.MessageState.Value(f"MESSAGE_STATE_{(state or 'unspecified').upper()}")
    found = message_record_pb2.ListMessagesResponse()

    def add_page(admin: AdminServiceStub, size: int, token: str) -> str:
        request = message_record_pb2.ListMessagesRequest(
            state=wanted, change_number=change_number, page_size=size, page_token=token
        )
        page = admin.ListMessages(request)
        found.messages.extend(page.messages)
        return page.next_page_token

    with _admin(register) as admin:
        collect_pages(lambda size, token: add_page(admin, size, token), lambda: limit - len(found.messages))
    if as_json:
        print_json(found)
        return
    columns = ["message", "kind", "channel", "operator", "language", "state", "reason"]
    columns += ["change", "queued", "delivered"]
    print_table(columns, [_message_row(message) for message in found.messages])


@messages.command("retry")
def retry_messages(
    message_ids: Annotated[list[str], typer.Argument(metavar="MESSAGE...", help="Which ones.")],
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Make queued, failed or suppressed messages due at once, under the same reference.

    Codes are left alone: a citizen asks for another one.
    """
    request = message_record_pb2.RetryMessagesRequest(
        request_id=request_id_or_new(request_id), message_ids=message_ids
    )
    with _admin(register) as admin:
        _show_retried(admin.RetryMessages(request), as_json)


@contextmanager
def _admin(register: str) -> Iterator[AdminServiceStub]:
    with connected(register, ADMINISTRATOR) as channel:
        yield AdminServiceStub(channel)


def _show_retried(
    answer: pb.RetryDeliveriesResponse | message_record_pb2.RetryMessagesResponse, as_json: bool
) -> None:
    if as_json:
        print_json(answer)
    else:
        typer.echo(f"{answer.retried_count} due at once{again(answer.duplicate)}")


def _delivery_row(delivery: pb.DeliveryStatus) -> list[str]:
    return [
        str(delivery.delivery_id),
        delivery.adapter,
        name(pb.DeliveryState, delivery.state),
        str(delivery.change_number),
        str(delivery.failed_attempts),
        delivery.last_error_code,
        time(delivery.created_time),
        time(delivery.not_before_time),
        # As much as `krr trace` needs; --json has all of it.
        delivery.trace_id[:8],
    ]


def _message_row(message: message_record_pb2.MessageStatus) -> list[str]:
    return [
        message.message_id,
        name(delivery_service_pb2.MessageKind, message.kind),
        name(delivery_service_pb2.Channel, message.channel),
        message.operator_name,
        name(person_pb2.Language, message.language).lower(),
        name(message_record_pb2.MessageState, message.state),
        message.reason_code,
        # Codes and reminders follow from no change.
        str(message.change_number or ""),
        time(message.created_time),
        time(message.delivered_time),
    ]
