"""`krr export`: the whole register into a file."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2
from krr_client import ChangesPage, Following, RegisterError, follow_changes

from krr_cli.export_spool import Spool
from krr_cli.person_csv import NotInCsv
from krr_cli.person_lines import AsCsv, AsJsonLines, Layout, layout_of, line_writer
from krr_cli.progress_bar import progress_bar
from krr_cli.public_body import DIGDIR, As, connected_as
from krr_cli.register import DEFAULT_REGISTER, REFUSED, UNREACHABLE, Register
from krr_cli.whole_file import whole_file

app = typer.Typer()

_SHOWN_EACH = 1000
_GO_ON = "stopped; run it again to go on"

# A paragraph is one line: what shows it folds it to the terminal.
_HELP = "\n\n".join(
    (
        "Write the whole register to FILE, as krr import takes it again: CSV or JSON lines, each person "
        "once, as the register was when the export had caught up with it.",
        "What was read waits in FILE.spool, which takes as much room as FILE. Interrupted or killed, it goes "
        "on from there when it is run again; to begin anew, remove FILE.spool. FILE is there when it is "
        "complete. Where the register is restored meanwhile, the export begins anew by itself.",
        "It holds what the change feed does, so it leaves out: mailboxes that are not chosen, those of "
        "reserved persons, and why a person was deleted. CSV has no place for a mailbox with a "
        "certificate of its own nor for one with a space in its address: these take JSON lines.",
        "Copies of the register are allowed to few.",
    )
)


@app.command(help=_HELP)
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="Where the persons go.")],
    as_csv: AsCsv = False,
    as_json_lines: AsJsonLines = False,
    give_up_after: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for a register that is away.")
    ] = 60.0,
    public_body: As = DIGDIR,
    register: Register = DEFAULT_REGISTER,
) -> None:
    layout = layout_of(file, as_csv, as_json_lines)
    if not file.parent.is_dir():
        raise typer.BadParameter(f"{file} cannot be a file")
    spooled = file.with_name(f"{file.name}.spool")
    with _faults_told(file, spooled):
        with closing(Spool(spooled)) as spool:
            with connected_as(public_body, register) as channel:
                try:
                    _read(follow_changes(channel, spool.cursor), spool, give_up_after)
                except RegisterError:
                    typer.echo(_GO_ON, err=True)
                    raise
            count = _write(spool, file, layout)
        spool.remove()
    typer.echo(f"{count} persons", err=True)


def _read(changes: Following[ChangesPage], spool: Spool, give_up_after: float) -> None:
    """Bring the spool up to where nothing more had changed."""
    count, begun = spool.count(), bool(spool.cursor)
    if begun:
        typer.echo(f"going on after {count} persons", err=True)
    with changes, progress_bar(None, to_standard_output=False) as show:
        for page in _until_silent(changes, give_up_after):
            if page.restarted:
                count = 0
                if begun:
                    typer.echo("the register was restored: the export begins anew", err=True)
            spool.save(page)
            begun = True
            count += len(page.persons)
            show(count)
            if page.caught_up:
                return
    typer.echo(_GO_ON, err=True)
    typer.echo(f"nothing came from the register for {give_up_after:g} s", err=True)
    raise typer.Exit(UNREACHABLE)


def _until_silent(changes: Following[ChangesPage], seconds: float) -> Iterator[ChangesPage]:
    """The pages, until none comes for so long."""
    while True:
        silent = threading.Timer(seconds, changes.close)
        silent.daemon = True
        silent.start()
        try:
            page = next(changes, None)
        finally:
            silent.cancel()
        if page is None:
            return
        yield page


def _write(spool: Spool, file: Path, layout: Layout) -> int:
    """Returns how many persons were written."""
    count = 0
    with whole_file(file) as text, progress_bar(spool.count(), to_standard_output=False) as show:
        write = line_writer(text, layout)
        for person in spool.persons():
            try:
                write(person_to_load(person))
            except NotInCsv as error:
                typer.echo(
                    f"change {person.change_number}: CSV has no place for what {error} holds; "
                    "run it again with --json-lines, and what was read is not read again",
                    err=True,
                )
                raise typer.Exit(REFUSED) from None
            count += 1
            if count % _SHOWN_EACH == 0:
                show(count)
    return count


def person_to_load(person: person_pb2.Person) -> pb.PersonToLoad:
    """What a register must load to hold the person as the feed shows it."""
    if person.status == person_pb2.PERSON_STATUS_DELETED:
        return pb.PersonToLoad(identifier=person.identifier, status=person.status)
    loaded = pb.PersonToLoad(
        identifier=person.identifier,
        status=person.status,
        reservation=person.reservation,
        language=person.language,
    )
    if person.HasField("reservation_time"):
        loaded.reservation_time.CopyFrom(person.reservation_time)
    if person.HasField("language_updated_time"):
        loaded.language_updated_time.CopyFrom(person.language_updated_time)
    if person.HasField("email"):
        _copy_point(person.email, loaded.email)
    if person.HasField("mobile"):
        _copy_point(person.mobile, loaded.mobile)
    if person.HasField("mailbox"):
        loaded.mailboxes.append(person.mailbox)
        loaded.chosen_operator_organisation_number = person.mailbox.operator_organisation_number
    return loaded


def _copy_point(point: person_pb2.ContactPoint, to: person_pb2.ContactPoint) -> None:
    to.CopyFrom(point)
    # The register that loads it finds these itself.
    to.ClearField("usable_until_time")
    to.ClearField("shared")


@contextmanager
def _faults_told(file: Path, spooled: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(_GO_ON, err=True)
        raise
    except sqlite3.Error as error:
        is_busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
        what = f"another export writes {file}" if is_busy else f"cannot read or write {spooled}: {error}"
        typer.echo(what, err=True)
        raise typer.Exit(REFUSED) from None
    except OSError as error:
        typer.echo(f"cannot read or write: {error}", err=True)
        raise typer.Exit(REFUSED) from None
