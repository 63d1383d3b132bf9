"""`krr import` of CSV and JSON lines: what is entered, what is reported, and how it goes on after a kill."""

import csv
import io
import json
import re
import stat
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.json_format import MessageToDict
from krr.v1 import admin_service_pb2 as pb
from krr_cli.person_csv import HEADER, csv_row
from krr_cli.up import TEST_CITIZENS
from structlog.testing import capture_logs
from typer.testing import Result

from server.__main__ import Server
from tests.clients.command_line import Krr, command, krr_at
from tests.clients.scripted_imports import ScriptedImports
from tests.clients.scripted_register import Act, is_silent, refuses
from tests.people import synthetic_identifiers
from tests.server.database import connect
from tests.server.importing import PLANTED, person, spoilt_person


def as_csv(persons: list[pb.PersonToLoad]) -> str:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    rows.writerows(map(csv_row, persons))
    return text.getvalue()


def as_json_lines(persons: list[pb.PersonToLoad]) -> str:
    return "".join(f"{json.dumps(MessageToDict(each))}\n" for each in persons)


LAYOUTS = {"csv": (as_csv, 2), "jsonl": (as_json_lines, 1)}
every_layout = pytest.mark.parametrize("suffix", LAYOUTS)


@pytest.fixture
def krr(server: Server) -> Iterator[Krr]:
    # What a server in this process logs would come among what the command prints.
    with capture_logs():
        yield krr_at(server.port)


@pytest.fixture
def database(database_url: str) -> Iterator["psycopg.Connection[Any]"]:
    with connect(database_url) as connection:
        yield connection


def persons_and_planted(count: int) -> tuple[list[pb.PersonToLoad], list[tuple[int, str, str]]]:
    """Persons of whom some are spoilt, and place, field and reason of those."""
    persons, planted = [], []
    for index, identifier in enumerate(islice(synthetic_identifiers(), count)):
        if index % 100 == 99:
            spoilt, field, reason = spoilt_person(index // 100, identifier)
            persons.append(spoilt)
            planted.append((index, field, reason))
        else:
            persons.append(person(index, identifier))
    assert len(planted) > len(PLANTED)
    # Once more the first one, which the register has by then; and a person of a few lines before.
    persons += [persons[0], persons[-2]]
    planted += [(count, "identifier", "DUPLICATE_ROW"), (count + 1, "identifier", "DUPLICATE_ROW")]
    return persons, planted


def reported(file: Path) -> list[tuple[int, str, str]]:
    header, *rows = csv.reader(io.StringIO(file.read_text(), newline=""))
    assert header == ["line", "field", "reason"]
    return [(int(line), field, reason) for line, field, reason in rows]


def identifiers(database: "psycopg.Connection[Any]") -> list[str]:
    return [row[0] for row in database.execute("SELECT identifier FROM person ORDER BY change_number")]


def summary(result: Result) -> str:
    return result.stdout.splitlines()[-1]


@every_layout
def test_exactly_what_is_wrong_is_reported_and_all_else_entered_once(
    krr: Krr, database: "psycopg.Connection[Any]", tmp_path: Path, suffix: str
) -> None:
    write, first_line = LAYOUTS[suffix]
    persons, planted = persons_and_planted(2500)
    text = f"{write(persons)}no person\n"
    planted.append((len(persons), "row", "INVALID_FIELD"))
    file, report = tmp_path / f"persons.{suffix}", tmp_path / "report.csv"
    file.write_text(text)
    wrong = {place for place, _, _ in planted}

    first = krr("import", str(file), "--report", str(report))

    assert (first.exit_code, first.stderr) == (1, "")
    assert summary(first).startswith(
        f"2475 entered, 0 were there already, {len(planted)} rejected; finished "
    )
    assert reported(report) == [(place + first_line, field, reason) for place, field, reason in planted]
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert identifiers(database) == [
        each.identifier for place, each in enumerate(persons) if place not in wrong
    ]

    again = krr("import", str(file), "--report", str(report))

    assert (again.exit_code, again.stdout) == (first.exit_code, first.stdout)
    assert len(reported(report)) == len(planted)
    assert len(identifiers(database)) == 2475
    assert not database.execute("SELECT FROM delivery UNION ALL SELECT FROM message").fetchall()


def test_persons_of_another_file_are_left_alone(
    krr: Krr, database: "psycopg.Connection[Any]", tmp_path: Path
) -> None:
    persons = [person(index, each) for index, each in enumerate(islice(synthetic_identifiers(), 10))]
    (tmp_path / "some.csv").write_text(as_csv(persons[:6]))
    (tmp_path / "all.jsonl").write_text(as_json_lines(persons))

    assert krr("import", str(tmp_path / "some.csv")).exit_code == 0
    result = krr("import", str(tmp_path / "all.jsonl"), "--json")

    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["loaded_count"], told["present_count"], told["rejected_count"]) == ("4", "6", "0")
    assert told["state"] == "IMPORT_STATE_FINISHED"
    assert len(identifiers(database)) == 10


def test_a_check_enters_nobody_and_is_not_the_import(
    krr: Krr, database: "psycopg.Connection[Any]", tmp_path: Path
) -> None:
    persons, planted = persons_and_planted(1500)
    file = tmp_path / "persons"
    file.write_text(as_csv(persons))

    checked = krr("import", str(file), "--csv", "--check")

    assert checked.exit_code == 1
    assert summary(checked).startswith("1485 would be entered, 0 were there already")
    assert identifiers(database) == []
    # More than fit on a page of the table.
    shown = [line.split() for line in checked.stderr.splitlines() if re.match(r" +\d+ ", line)]
    assert shown == [[str(place + 2), field, reason] for place, field, reason in planted][:20]
    assert krr("import", str(file), "--csv").exit_code == 1
    assert len(identifiers(database)) == 1485


def test_of_many_rejected_lines_the_first_are_shown_and_the_others_counted(krr: Krr, tmp_path: Path) -> None:
    file = tmp_path / "persons.jsonl"
    file.write_text('{"identifier": "x"}\n' * 1234)

    result = krr("import", str(file))

    assert result.exit_code == 1
    assert "20 " in result.stderr
    assert " 21 " not in result.stderr
    assert result.stderr.splitlines()[-1] == "and 1214 more: --report FILE"


def test_the_import_that_was_told_can_be_shown_with_what_it_did_not_take(krr: Krr, tmp_path: Path) -> None:
    file, report = tmp_path / "persons.jsonl", tmp_path / "report.csv"
    file.write_text("x\n")
    imported = krr("import", str(file))
    import_id = imported.stdout.split()[-1]

    shown = krr("imports", "show", import_id)
    assert (shown.exit_code, shown.stdout) == (0, imported.stdout)
    assert shown.stderr == imported.stderr
    assert json.loads(krr("imports", "show", import_id, "--json").stdout)["rejected_count"] == "1"
    assert krr("imports", "show", import_id, "--report", str(report)).exit_code == 0
    assert reported(report) == [(1, "row", "INVALID_FIELD")]

    unknown = krr("imports", "show", "123e4567-e89b-42d3-a456-426614174000")
    assert unknown.exit_code == 1
    assert unknown.stderr.startswith("UNKNOWN_IMPORT")


@every_layout
def test_an_import_that_was_killed_goes_on_and_enters_nobody_twice(
    server: Server, krr: Krr, database: "psycopg.Connection[Any]", tmp_path: Path, suffix: str
) -> None:
    persons = [person(index, each) for index, each in enumerate(islice(synthetic_identifiers(), 8000))]
    file = tmp_path / f"persons.{suffix}"
    file.write_text(LAYOUTS[suffix][0](persons))

    for _ in range(2):
        done = received(database)
        with command(server.port, "import", str(file)) as importing:
            while received(database) == done:
                assert importing.process.poll() is None
                time.sleep(0.005)
            importing.process.kill()
            importing.process.wait()
    assert database.execute("SELECT FROM person_import WHERE finished_time IS NULL").fetchall()

    result = krr("import", str(file))

    assert (result.exit_code, result.stderr) == (0, "")
    assert summary(result).startswith("8000 entered, 0 were there already, 0 rejected; finished ")
    assert identifiers(database) == [each.identifier for each in persons]


def received(database: "psycopg.Connection[Any]") -> int:
    found = database.execute("SELECT received_row FROM person_import").fetchone()
    return found[0] if found else 0


@pytest.fixture
def scripted() -> Iterator[ScriptedImports]:
    running = ScriptedImports()
    running.start()
    yield running
    running.end()


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (refuses(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"), 1),
        (refuses(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"), 3),
    ],
    ids=["refused", "away"],
)
def test_a_failure_midway_says_how_far_it_came(
    scripted: ScriptedImports, tmp_path: Path, failure: Act, code: int
) -> None:
    file = tmp_path / "persons.jsonl"
    file.write_text('{"identifier": "x"}\n' * 7500)
    scripted.acts.extend([(4, failure), *[(0, failure)] * 99])

    failed = krr_at(scripted.port)("import", str(file), "--give-up-after", "0.5")

    assert failed.exit_code == code
    assert re.match(r"stopped after line \d+ of 7500; the same command goes on from there\n", failed.stderr)
    assert failed.stdout == ""


def test_ctrl_c_says_how_far_it_came(scripted: ScriptedImports, tmp_path: Path) -> None:
    file = tmp_path / "persons.jsonl"
    file.write_text('{"identifier": "x"}\n' * 7500)
    scripted.acts.append((4, is_silent))
    with command(scripted.port, "import", str(file)) as importing:
        while not any(each.received_row for each in scripted.imports.values()):
            assert importing.process.poll() is None
        time.sleep(0.1)
        importing.interrupt()
        code, said = importing.end()

    assert code == 130
    assert re.fullmatch(r"stopped after line \d+ of 7500; the same command goes on from there\n", said)


def test_a_file_that_is_written_to_meanwhile_is_not_taken_for_what_it_was(
    scripted: ScriptedImports, tmp_path: Path
) -> None:
    file = tmp_path / "persons.jsonl"
    file.write_text('{"identifier": "x"}\n' * 2500)
    away = refuses(grpc.StatusCode.UNAVAILABLE)

    def written_to(responses: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        with file.open("a") as more:
            more.write("one more\n")
        return away(responses, context)

    scripted.acts.append((1, written_to))

    failed = krr_at(scripted.port)("import", str(file))

    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == "the file was changed meanwhile: import it again, as it is now"
    [only] = scripted.imports.values()
    assert not only.finished


@pytest.mark.parametrize(
    "text",
    ["", "x,y\n", "identifier,status\n", as_json_lines([person(0, next(synthetic_identifiers()))])],
    ids=["nothing", "other columns", "too few columns", "no CSV"],
)
def test_csv_without_its_header_is_wrong_usage_and_no_import(
    krr: Krr, database: "psycopg.Connection[Any]", tmp_path: Path, text: str
) -> None:
    file = tmp_path / "persons.csv"
    file.write_text(text)

    refused = krr("import", str(file))

    assert refused.exit_code == 2
    assert "columns" in refused.stderr
    assert next(synthetic_identifiers()) not in refused.stderr
    assert database.execute("SELECT FROM person_import").fetchall() == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["import", "/nonexistent.csv"],
        ["import", "/"],
        ["import", "/dev/null", "--csv"],
        ["import", str(Path(__file__))],
        ["import", str(Path(__file__)), "--csv", "--json-lines"],
        ["import", str(TEST_CITIZENS), "--report", "/nonexistent/x"],
        ["imports"],
        ["imports", "show"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert krr_at(1)(*arguments).exit_code == 2


def test_load_and_import_say_which_of_them_is_for_what() -> None:
    assert "krr import" in krr_at(1)("load", "--help").stdout
    assert "krr load" in krr_at(1)("import", "--help").stdout
