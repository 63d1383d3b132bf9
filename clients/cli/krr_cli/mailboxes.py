"""`krr mailboxes`: an operator's own feed."""

import typer
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub
from krr_client import follow_mailboxes

from krr_cli.feed import After, Feed, Follow, Limit, follow_feed, read_feed
from krr_cli.operator import Operator
from krr_cli.register import DEFAULT_REGISTER, AsJson, Register, connected
from krr_cli.show import operator_number

app = typer.Typer()


@app.command()
def mailboxes(
    operator: Operator,
    after: After = "",
    follow: Follow = False,
    limit: Limit = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Read what the register holds of a mailbox operator's mailboxes; one line of JSON per page.

    Each mailbox stands here in its latest state, without an address where it is gone. Cursors,
    --after and --follow are as in `krr changes`.
    """
    with connected(register, f"Development operator/{operator_number(operator)}") as channel:
        stub = MailboxOperatorServiceStub(channel)
        feed = Feed(
            items="mailboxes",
            columns=("change", "identifier", "address", "public mail"),
            row=_row,
            page=pb.ListMailboxesResponse,
            list=lambda cursor, size: stub.ListMailboxes(
                pb.ListMailboxesRequest(after_cursor=cursor, page_size=size)
            ),
            follow=lambda cursor, size: follow_mailboxes(channel, cursor, page_size=size),
        )
        (follow_feed if follow else read_feed)(feed, after, limit, as_json)


def _row(held: pb.HeldMailbox) -> list[str]:
    return [
        str(held.change_number),
        held.identifier,
        held.address or "gone",
        "yes" if held.receives_public_mail else "no",
    ]
