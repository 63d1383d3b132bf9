"""`krr import`: any number of persons from a file, and what became of them."""

import csv
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import error_reason_pb2, person_import_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr_client import RegisterError, import_persons

from krr_cli.person_csv import NotAHeader, UnreadableField, read_csv
from krr_cli.person_json import read_json_lines
from krr_cli.person_lines import Layout, layout_of
from krr_cli.progress_bar import progress_bar
from krr_cli.register import ADMINISTRATOR, DEFAULT_REGISTER, REFUSED, AsJson, Register, connected
from krr_cli.show import name, print_json, print_table, time
from krr_cli.whole_file import whole_file

app = typer.Typer()
imports = typer.Typer(no_args_is_help=True, help="See how far an import is, and which rows it did not take.")

_CALL_SECONDS = 30.0
_READ_BYTES = 1_000_000
_PER_PAGE = 1000
_SHOWN = 20

# A paragraph is one line: what shows it folds it to the terminal.
_HELP = "\n\n".join(
    (
        "Enter any number of persons from a file of CSV or JSON lines; those already there are left alone.",
        "For millions, and for what must go on after a failure: whatever ends it, the same command on the "
        "same file goes on where it was, and enters nobody twice. A line that cannot be taken is reported "
        f"and stops none of the others; the exit code is then {REFUSED}. For a few persons, a thousand of "
        'them or none, and for "age_days", there is `krr load`.',
        "The import is known by what the file holds: once it is finished, the same content again tells "
        "the same result and enters nothing. To try rejected lines again, correct them in another file.",
        "CSV has a header row that names its columns, in any order: identifier, status, reservation, "
        "reservation_time, language, language_updated_time, email and mobile, each also with _updated_time, "
        "_confirmed_time and _validated_time, mailboxes (OPERATOR:ADDRESS, separated by spaces), "
        "chosen_operator. Values are ACTIVE or DELETED, RESERVED or NOT_RESERVED, nb, nn, en or se; times "
        "are like 2028-03-23T10:00:00Z. What CSV has no place for, such as certificates, JSON lines have: a "
        "krr.v1.PersonToLoad as JSON per line.",
    )
)

Report = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False,
        metavar="FILE",
        help="Write every rejected line to FILE, as CSV of line, field and reason.",
        show_default=f"the first {_SHOWN} on standard error",
    ),
]


@app.command("import", help=_HELP)
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The persons.")],
    as_csv: Annotated[bool, typer.Option("--csv", help="The file is CSV.", show_default=".csv")] = False,
    as_json_lines: Annotated[
        bool,
        typer.Option("--json-lines", help="The file is of JSON lines.", show_default=".jsonl, .ndjson"),
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Enter nobody: only tell what would be.")] = False,
    report: Report = None,
    give_up_after: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="How long to wait for a register that is away."),
    ] = 60.0,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    if not file.is_file():
        raise typer.BadParameter(f"{file} cannot be read twice, as going on after a cut must")
    _must_be_writable(report)
    layout = layout_of(file, as_csv, as_json_lines)
    with connected(register, ADMINISTRATOR, timeout=_CALL_SECONDS) as channel, _file_errors():
        content = _Content.of(file, layout)
        progress = person_import_pb2.PersonImport()
        with progress_bar(content.line_count, to_standard_output=False) as show:
            try:
                for progress in import_persons(
                    channel,
                    content.import_id(check),
                    content.rows_after,
                    check_only=check,
                    give_up_after=give_up_after,
                ):
                    show(progress.received_row)
            except (RegisterError, KeyboardInterrupt, OSError):
                typer.echo(
                    f"stopped after line {progress.received_row} of {content.line_count}; "
                    "the same command goes on from there",
                    err=True,
                )
                raise
            except NotAHeader as error:
                raise typer.BadParameter(f"{file}: {error}") from None
        _show_import(progress, as_json)
        _show_rejections(AdminServiceStub(channel), progress, report)
    if progress.rejected_count:
        raise typer.Exit(REFUSED)


@imports.command("show")
def show_import(
    import_id: Annotated[str, typer.Argument(metavar="IMPORT", help="UUID that `krr import` told.")],
    report: Report = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Show how far an import is, and the lines that it did not take."""
    _must_be_writable(report)
    with connected(register, ADMINISTRATOR, timeout=_CALL_SECONDS) as channel, _file_errors():
        admin = AdminServiceStub(channel)
        answer = admin.GetImport(person_import_pb2.GetImportRequest(import_id=import_id))
        progress: person_import_pb2.PersonImport = getattr(answer, "import")
        _show_import(progress, as_json)
        _show_rejections(admin, progress, report)


class _FileChanged(Exception):
    """It is not what it was when the import began."""


@dataclass(frozen=True)
class _Content:
    """What a file holds."""

    file: Path
    layout: Layout
    digest: str
    line_count: int
    changed: tuple[int, int]

    @classmethod
    def of(cls, file: Path, layout: Layout) -> "_Content":
        """Read the file to its end."""
        digest, line_count, last = hashlib.sha256(), 0, b"\n"
        with file.open("rb") as stream:
            changed = _changed(stream.fileno())
            while read := stream.read(_READ_BYTES):
                digest.update(read)
                line_count += read.count(b"\n")
                last = read[-1:]
        return cls(file, layout, digest.hexdigest(), line_count + (last != b"\n"), changed)

    def import_id(self, check_only: bool) -> str:
        """The same for the same content, so that the import is the same one."""
        content = f"{self.layout} {self.digest}{' check' if check_only else ''}"
        return str(uuid.uuid5(uuid.NAMESPACE_OID, content))

    def rows_after(self, line: int) -> Iterator[pb.ImportRow]:
        """Its rows after the line, by the lines on which they begin. Raises _FileChanged, NotAHeader."""
        read = read_csv if self.layout is Layout.CSV else read_json_lines
        with self.file.open("rb") as stream:
            for number, person in read(stream, line):
                if isinstance(person, UnreadableField):
                    yield pb.ImportRow(row=number, unreadable_field=person.field)
                else:
                    yield pb.ImportRow(row=number, person=person)
            if _changed(stream.fileno()) != self.changed:
                raise _FileChanged


def _changed(descriptor: int) -> tuple[int, int]:
    """Another one when the file has been written to."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"cannot read or write: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    except _FileChanged:
        typer.echo("the file was changed meanwhile: import it again, as it is now", err=True)
        raise typer.Exit(REFUSED) from None


def _must_be_writable(report: Path | None) -> None:
    if report and (not report.parent.is_dir() or (report.exists() and not report.is_file())):
        raise typer.BadParameter(f"{report} cannot be a file")


def _show_import(progress: person_import_pb2.PersonImport, as_json: bool) -> None:
    if as_json:
        print_json(progress)
        return
    entered = "would be entered" if progress.check_only else "entered"
    state = name(person_import_pb2.ImportState, progress.state).lower()
    when = f" {time(progress.finished_time)}" if progress.HasField("finished_time") else ""
    typer.echo(
        f"{progress.loaded_count} {entered}, {progress.present_count} were there already, "
        f"{progress.rejected_count} rejected; {state}{when} as import {progress.import_id}"
    )


def _show_rejections(
    admin: AdminServiceStub, progress: person_import_pb2.PersonImport, report: Path | None
) -> None:
    if report:
        with whole_file(report) as text:
            rows = csv.writer(text, lineterminator="\n")
            rows.writerow(("line", "field", "reason"))
            rows.writerows(_rejections(admin, progress.import_id, _PER_PAGE))
    elif progress.rejected_count:
        shown = list(islice(_rejections(admin, progress.import_id, _SHOWN), _SHOWN))
        print_table(["line", "field", "reason"], shown, err=True)
        if len(shown) < progress.rejected_count:
            typer.echo(f"and {progress.rejected_count - len(shown)} more: --report FILE", err=True)


def _rejections(admin: AdminServiceStub, import_id: str, page_size: int) -> Iterator[tuple[str, str, str]]:
    request = person_import_pb2.ListImportRejectionsRequest(import_id=import_id, page_size=page_size)
    while True:
        page = admin.ListImportRejections(request)
        for each in page.rejections:
            yield str(each.row), each.field, name(error_reason_pb2.ErrorReason, each.reason)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
