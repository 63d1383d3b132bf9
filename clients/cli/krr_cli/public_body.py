"""What a public body does: look up persons and follow the changes."""

from enum import StrEnum
from typing import Annotated

import typer
from krr.v1 import error_reason_pb2, person_pb2
from krr.v1 import register_service_pb2 as pb
from krr.v1.register_service_pb2_grpc import RegisterServiceStub

from krr_cli.person import contact, mailbox, standing
from krr_cli.register import DEFAULT_REGISTER, AsJson, Register, connected
from krr_cli.show import name, print_json, print_table

app = typer.Typer()

_MOST_PER_CALL = 1000

# Digitaliseringsdirektoratet, who runs the real register.
As = Annotated[str, typer.Option("--as", metavar="ORGNR", help="The public body that asks.")]
_DIGDIR = "991825827"


class Purpose(StrEnum):
    NOTICE = "notice"
    SERVICE_MESSAGE = "service-message"


_PURPOSES = {
    Purpose.NOTICE: pb.PURPOSE_NOTICE,
    Purpose.SERVICE_MESSAGE: pb.PURPOSE_SERVICE_MESSAGE,
}


@app.command()
def look_up(
    identifiers: Annotated[list[str], typer.Argument(metavar="ID...", help="1 to 1000 identifiers.")],
    purpose: Annotated[
        Purpose, typer.Option(help="notice: expired contact points are left out.")
    ] = Purpose.NOTICE,
    public_body: As = _DIGDIR,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Look up persons: may they be notified, and which way does a letter go?"""
    with connected(register, f"Development public-body/{public_body}") as channel:
        request = pb.LookUpPersonsRequest(identifiers=identifiers, purpose=_PURPOSES[purpose])
        answer = RegisterServiceStub(channel).LookUpPersons(request)
    if as_json:
        print_json(answer)
    else:
        columns = ["identifier", "standing", "contact", "mailbox", "notices", "letters"]
        print_table(columns, [_look_up_row(entry) for entry in answer.entries])


@app.command()
def changes(
    after: Annotated[str, typer.Option(metavar="CURSOR", help="Where an earlier reading ended.")] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="How many persons at most.", show_default="all")
    ] = None,
    public_body: As = _DIGDIR,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Read the change feed, page by page, until nothing is left; one line of JSON per page."""
    cursor, left = after, limit
    persons: list[person_pb2.Person] = []
    with connected(register, f"Development public-body/{public_body}") as channel:
        feed = RegisterServiceStub(channel)
        while True:
            size = _MOST_PER_CALL if left is None else min(left, _MOST_PER_CALL)
            page = feed.ListChanges(pb.ListChangesRequest(after_cursor=cursor, page_size=size))
            cursor = page.cursor
            if as_json:
                print_json(page)
            else:
                persons.extend(page.persons)
            if left is not None:
                left -= len(page.persons)
            if page.caught_up or left == 0:
                break
    if not as_json:
        columns = ["change", "identifier", "standing", "contact", "mailbox"]
        print_table(columns, [_change_row(person) for person in persons])
        typer.echo(f"{'caught up' if page.caught_up else 'more is to come'}; cursor {cursor}")


def _look_up_row(entry: pb.LookUpEntry) -> list[str]:
    if not entry.HasField("person"):
        return [entry.requested_identifier, name(error_reason_pb2.ErrorReason, entry.refusal), *[""] * 4]
    person = entry.person
    reachable = contact(person)
    for kind in entry.expired_contacts:
        reachable += f"\n{name(person_pb2.ContactKind, kind).lower()} has expired"
    route = name(pb.LetterRoute, entry.letter_route)
    because = name(pb.LetterRouteReason, entry.letter_route_reason)
    return [
        entry.requested_identifier,
        standing(person),
        reachable.strip(),
        mailbox(person.mailbox),
        name(pb.Notifiable, entry.notifiable),
        f"{route}\n{because}",
    ]


def _change_row(person: person_pb2.Person) -> list[str]:
    return [
        str(person.change_number),
        person.identifier,
        standing(person),
        contact(person),
        mailbox(person.mailbox),
    ]
