"""Reading a feed to where it has come, and following it for ever."""

import select
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import UnsupportedOperation
from typing import Annotated, Any

import typer
from google.protobuf.message import Message
from krr_client import Following, RegisterError

from krr_cli.register import INTERRUPTED, READER_LEFT
from krr_cli.show import print_json, print_table

_MOST_PER_PAGE = 1000

After = Annotated[
    str,
    typer.Option(metavar="CURSOR", help="Where an earlier reading ended.", show_default="the beginning"),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Go on for ever with what changes, through cuts and restarts of the register; Ctrl-C ends it.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="How many at most.", show_default="all")]


@dataclass(frozen=True)
class Feed:
    """One of the register's feeds, and how it is shown.

    items: the field of a page that holds them.
    columns, row: of a table of items.
    page: a page of the contract, of items, cursor and caught_up.
    list: a page after a cursor, of so many items at most.
    follow: all pages after a cursor, of so many items at most each.
    """

    items: str
    columns: Sequence[str]
    row: Callable[[Any], list[str]]
    page: Callable[..., Message]
    list: Callable[[str, int], Any]
    follow: Callable[[str, int], Following[Any]]


def read_feed(feed: Feed, after: str, limit: int | None, as_json: bool) -> None:
    """Print pages until nothing is left, or so many items were read."""
    cursor, left = after, limit
    items: list[Any] = []
    while True:
        page = feed.list(cursor, _page_size(left))
        cursor, of_page = page.cursor, getattr(page, feed.items)
        if as_json:
            print_json(page)
        else:
            items.extend(of_page)
        if left is not None:
            left -= len(of_page)
        if page.caught_up or left == 0:
            break
    if not as_json:
        print_table(feed.columns, [feed.row(item) for item in items])
        typer.echo(f"{'caught up' if page.caught_up else 'more is to come'}; cursor {cursor}")


def follow_feed(feed: Feed, after: str, limit: int | None, as_json: bool) -> None:
    """Print pages as they come, until so many items came, Ctrl-C, or nobody reads any more.

    A page is printed whole and with its cursor, or it counts as not read: to go on after the
    last cursor misses nothing.
    """
    cursor, left, caught_up, rows_came = after, limit, False, False
    typer.echo("following; Ctrl-C ends it", err=True)
    with feed.follow(after, _page_size(limit)) as pages:
        _when_nobody_reads(pages.close)
        try:
            for page in pages:
                items = getattr(page, feed.items)
                restarted = page.restarted
                if left is not None and len(items) > left:
                    # A cursor belongs to a whole page: read one that is as short as wanted.
                    page = feed.list("" if restarted else cursor, left)
                    items = getattr(page, feed.items)
                if restarted and cursor:
                    typer.echo(
                        f"the register was restored: all {feed.items} come anew; drop those that do not",
                        err=True,
                    )
                if as_json:
                    fields = {feed.items: items, "cursor": page.cursor, "caught_up": page.caught_up}
                    print_json(feed.page(**fields), restarted=restarted)
                else:
                    if items:
                        print_table(feed.columns, map(feed.row, items), header=not rows_came)
                        rows_came = True
                    typer.echo(f"cursor {page.cursor}")
                cursor = page.cursor
                if page.caught_up and not caught_up:
                    typer.echo("caught up", err=True)
                caught_up = page.caught_up
                if left is not None:
                    left -= len(items)
                    if left == 0:
                        return
        except KeyboardInterrupt:
            _say_where(cursor)
            raise typer.Exit(INTERRUPTED) from None
        except RegisterError:
            _say_where(cursor)
            raise
    raise typer.Exit(READER_LEFT)


def _page_size(left: int | None) -> int:
    return _MOST_PER_PAGE if left is None else min(left, _MOST_PER_PAGE)


def _say_where(cursor: str) -> None:
    if cursor:
        typer.echo(f"to go on: --after {cursor}", err=True)


def _when_nobody_reads(stop: Callable[[], None]) -> None:
    """Call `stop`, from another thread, when nobody can read standard output any more.

    Else a quiet feed would be followed until its next change for a reader that left long ago.
    """
    watch = select.poll()
    with suppress(UnsupportedOperation):
        # No events: a pipe without a reader is told of all the same.
        watch.register(sys.stdout.fileno(), 0)

        def wait() -> None:
            watch.poll()
            stop()

        threading.Thread(target=wait, daemon=True).start()
