"""Persons to load as lines of text: CSV or JSON."""

import csv
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer
from google.protobuf.json_format import MessageToDict
from krr.v1 import admin_service_pb2 as pb

from krr_cli.person_csv import HEADER, csv_row


class Layout(StrEnum):
    CSV = "csv"
    JSON_LINES = "json-lines"


AsCsv = Annotated[
    bool,
    typer.Option("--csv", help="CSV with a header row; as the suffix .csv says too.", show_default=False),
]
AsJsonLines = Annotated[
    bool,
    typer.Option(
        "--json-lines",
        help="A krr.v1.PersonToLoad as JSON per line, which takes longer; as .jsonl and .ndjson say too.",
        show_default=False,
    ),
]

_BY_SUFFIX = {".csv": Layout.CSV, ".jsonl": Layout.JSON_LINES, ".ndjson": Layout.JSON_LINES}


def layout_of(file: Path | None, as_csv: bool, as_json_lines: bool) -> Layout:
    """The layout that an option names, else the file's name; CSV for standard output.

    Raises typer.BadParameter where nothing tells.
    """
    if as_csv and as_json_lines:
        raise typer.BadParameter("either --csv or --json-lines")
    if as_csv or as_json_lines:
        return Layout.CSV if as_csv else Layout.JSON_LINES
    if file is None:
        return Layout.CSV
    if found := _BY_SUFFIX.get(file.suffix.lower()):
        return found
    raise typer.BadParameter(f"--csv or --json-lines: {file.name} does not tell")


def line_writer(text: TextIO, layout: Layout) -> Callable[[pb.PersonToLoad], object]:
    """What writes a person to the text; the header of CSV is written at once.

    Writing raises person_csv.NotInCsv where CSV has no place for what a person holds.
    """
    if layout is Layout.JSON_LINES:
        return lambda person: text.write(f"{_json_line(person)}\n")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    return lambda person: rows.writerow(csv_row(person))


def _json_line(person: pb.PersonToLoad) -> str:
    # What says nothing is left out: it would be half of the file.
    return json.dumps(MessageToDict(person, preserving_proto_field_name=True), ensure_ascii=False)
