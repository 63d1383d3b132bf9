"""`krr changes`: the change feed."""

import typer
from krr.v1 import person_pb2
from krr.v1 import register_service_pb2 as pb
from krr.v1.register_service_pb2_grpc import RegisterServiceStub
from krr_client import follow_changes

from krr_cli.feed import After, Feed, Follow, Limit, follow_feed, read_feed
from krr_cli.person import contact, mailbox, standing
from krr_cli.public_body import DIGDIR, As, connected_as
from krr_cli.register import DEFAULT_REGISTER, AsJson, Register

app = typer.Typer()


@app.command()
def changes(
    after: After = "",
    follow: Follow = False,
    limit: Limit = None,
    public_body: As = DIGDIR,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Read the change feed: each person in its latest state; one line of JSON per page.

    Ends when nothing is left, unless it is to --follow. A cursor stands with each page, and goes to
    --after to go on from there. Where the register was restored, an old cursor is refused
    (FEED_RESET); --follow then begins anew by itself, with "restarted" on that page of JSON.
    """
    with connected_as(public_body, register) as channel:
        stub = RegisterServiceStub(channel)
        feed = Feed(
            items="persons",
            columns=("change", "identifier", "standing", "contact", "mailbox"),
            row=_row,
            page=pb.ListChangesResponse,
            list=lambda cursor, size: stub.ListChanges(
                pb.ListChangesRequest(after_cursor=cursor, page_size=size)
            ),
            follow=lambda cursor, size: follow_changes(channel, cursor, page_size=size),
        )
        (follow_feed if follow else read_feed)(feed, after, limit, as_json)


def _row(person: person_pb2.Person) -> list[str]:
    return [
        str(person.change_number),
        person.identifier,
        standing(person),
        contact(person),
        mailbox(person.mailbox),
    ]
