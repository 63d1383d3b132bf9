"""`krr export`: the whole register into a file, whatever interrupts it."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from krr.v1 import person_pb2
from krr_cli.export import person_to_load
from krr_cli.person_csv import UnreadableField, read_csv
from krr_cli.up import TEST_CITIZENS

from server.__main__ import Server
from tests.clients.command_line import Command, Krr, command, krr_at
from tests.clients.feed_copy import ENOUGH_SECONDS, A, B, C, D, E, person
from tests.clients.scripted_register import (
    ScriptedRegister,
    after,
    is_silent,
    refuses,
)
from tests.clients.test_follow_changes import restores
from tests.people import DIGIPOST, OLA
from tests.server.database import connect

ALL = sorted([A, B, C, D, E])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "register.csv"


def spool_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.spool")


def rows_of(file: Path) -> dict[str, int]:
    """Statuses by identifier, of which none may stand twice."""
    with file.open("rb") as stream:
        found = [each for _, each in read_csv(stream)]
    rows: dict[str, int] = {
        each.identifier: each.status for each in found if not isinstance(each, UnreadableField)
    }
    assert len(rows) == len(found)
    return rows


def truth(scripted: ScriptedRegister) -> dict[str, int]:
    return {each.identifier: each.status for page in scripted.pages for each in page}


# Against the register itself


@pytest.fixture
def krr(server: Server, tmp_path: Path) -> Krr:
    """The command line, against a register that holds test citizens and a population."""
    run = krr_at(server.port)
    people = tmp_path / "people.jsonl"
    assert run("population", str(people), "--persons", "300").exit_code == 0
    for each in (TEST_CITIZENS, people):
        assert run("load", str(each)).exit_code == 0
    people.unlink()
    return run


def test_csv_and_json_lines_hold_every_person_as_the_feed_does(krr: Krr, tmp_path: Path, file: Path) -> None:
    as_json = tmp_path / "register.jsonl"
    results = [krr("export", str(each)) for each in (file, as_json)]
    pages = krr("changes", "--json").stdout.splitlines()
    feed = [fields["identifier"] for page in pages for fields in json.loads(page)["persons"]]
    with file.open("rb") as stream:
        from_csv = [each for _, each in read_csv(stream)]
    lines = [json.loads(line) for line in as_json.read_text().splitlines()]

    assert [(result.exit_code, result.stderr) for result in results] == [(0, "318 persons\n")] * 2
    # Not in their order: whoever is found to share contact info moves to the feed's end.
    assert sorted(each["identifier"] for each in lines) == sorted(feed)
    assert sorted(getattr(each, "identifier", "") for each in from_csv) == sorted(feed)
    assert sorted(tmp_path.glob("register*")) == [file, as_json]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_register_that_loads_an_export_holds_the_same(krr: Krr, tmp_path: Path, database_url: str) -> None:
    assert krr("reserve", OLA).exit_code == 0
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert krr("export", str(first)).exit_code == 0
    with connect(database_url) as database:
        database.execute("TRUNCATE person CASCADE")
    assert krr("load", str(first)).stdout == "318 loaded, 0 were there already\n"
    assert krr("export", str(second)).exit_code == 0

    assert sorted(second.read_text().splitlines()) == sorted(first.read_text().splitlines())
    assert "RESERVATION_RESERVED" in first.read_text()
    assert "usable_until_time" not in first.read_text()


def test_a_person_who_changes_while_it_runs_stands_there_once_as_of_the_last_change(
    krr: Krr, file: Path
) -> None:
    # What a run reads that is ended before it writes.
    blocked = file.with_name(f"{file.name}.part")
    blocked.mkdir()
    assert krr("export", str(file)).exit_code == 1
    assert krr("erase", OLA, "--reason", "dead").exit_code == 0
    blocked.rmdir()
    went_on = krr("export", str(file))

    assert went_on.stderr.startswith("going on after 3")
    assert went_on.stderr.endswith("\n318 persons\n")
    assert rows_of(file)[OLA] == person_pb2.PERSON_STATUS_DELETED
    assert file.read_text().count(OLA) == 1


# Against a register that fails as it is told to


def export_at(scripted: ScriptedRegister, file: Path, *options: str) -> Any:
    return krr_at(scripted.port)("export", str(file), *options)


def saved_cursor(file: Path, tmp_path: Path) -> str:
    """What a process that were killed now would leave behind; "" where there is nothing."""
    copy = tmp_path / "as-of-now"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    try:
        for each in file.parent.glob(f"{spool_of(file).name}*"):
            shutil.copy(each, copy)
        with closing(sqlite3.connect(f"file:{copy / spool_of(file).name}?mode=rw", uri=True)) as database:
            return str(database.execute("SELECT cursor FROM state").fetchone()[0])
    except (sqlite3.Error, OSError):
        return ""


@contextmanager
def running_until(scripted: ScriptedRegister, file: Path, condition: Callable[[], bool]) -> Iterator[Command]:
    with command(scripted.port, "export", str(file)) as running:
        give_up = time.monotonic() + ENOUGH_SECONDS
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.02)
        yield running


def killed_at(scripted: ScriptedRegister, file: Path, tmp_path: Path, cursor: str) -> None:
    """Run it, and end it with SIGKILL when it has saved so much."""
    with running_until(scripted, file, lambda: saved_cursor(file, tmp_path) == cursor) as running:
        running.process.send_signal(signal.SIGKILL)
        assert running.end()[0] == -signal.SIGKILL


def test_killed_again_and_again_it_goes_on_and_nothing_is_lost_or_doubled(
    scripted: ScriptedRegister, file: Path, tmp_path: Path
) -> None:
    for page in (1, 2, 3):
        scripted.acts.extend([after(1, is_silent)])
        killed_at(scripted, file, tmp_path, f"1-{page}")
        assert not file.exists()
    result = export_at(scripted, file)

    assert result.exit_code == 0
    assert result.stderr == "going on after 6 persons\n5 persons\n"
    assert [call.after_cursor for call in scripted.calls] == ["", "1-1", "1-2", "1-3"]
    assert rows_of(file) == truth(scripted)
    assert not list(tmp_path.glob("*.spool*"))


def test_a_kill_while_the_file_is_written_costs_the_writing_only(
    scripted: ScriptedRegister, file: Path, tmp_path: Path
) -> None:
    part = file.with_name(f"{file.name}.part")
    part.mkdir()
    assert export_at(scripted, file).exit_code == 1
    part.rmdir()
    part.write_text("half a row")
    scripted.commit(person(D, 9, deleted=True))

    assert export_at(scripted, file).exit_code == 0
    assert [call.after_cursor for call in scripted.calls] == ["", "1-4"]
    assert rows_of(file) == truth(scripted)
    assert not part.exists()


def test_a_restore_while_it_runs_begins_it_anew(scripted: ScriptedRegister, file: Path) -> None:
    scripted.acts.extend([after(3, restores(scripted))])
    result = export_at(scripted, file)

    assert result.stderr == "the register was restored: the export begins anew\n3 persons\n"
    assert rows_of(file) == truth(scripted)
    assert D not in rows_of(file)


def test_a_restore_between_two_runs_begins_it_anew(
    scripted: ScriptedRegister, file: Path, tmp_path: Path
) -> None:
    scripted.acts.extend([after(3, is_silent)])
    killed_at(scripted, file, tmp_path, "1-3")
    scripted.acts.extend([restores(scripted)])
    result = export_at(scripted, file)

    assert result.exit_code == 0
    assert rows_of(file) == truth(scripted)


def test_an_older_state_that_comes_late_takes_no_newer_ones_place(
    scripted: ScriptedRegister, file: Path
) -> None:
    scripted.commit(person(C, 3, deleted=True), person(A, 20))

    assert export_at(scripted, file).exit_code == 0
    assert rows_of(file)[C] == person_pb2.PERSON_STATUS_ACTIVE


@pytest.mark.parametrize(
    ("acts", "options", "code", "says"),
    [
        (
            [after(2, refuses(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"))],
            [],
            1,
            "stopped; run it again to go on\nCALLER_NOT_ALLOWED",
        ),
        (
            [after(2, is_silent)],
            ["--give-up-after", "0.3"],
            3,
            "stopped; run it again to go on\nnothing came from the register for 0.3 s\n",
        ),
    ],
    ids=["refused", "away"],
)
def test_a_failure_is_told_and_never_taken_for_the_end(
    scripted: ScriptedRegister, file: Path, acts: list[Any], options: list[str], code: int, says: str
) -> None:
    file.write_text("old")
    scripted.acts.extend(acts)
    failed = export_at(scripted, file, *options)

    assert failed.exit_code == code
    assert failed.stderr.startswith(says)
    assert file.read_text() == "old"
    assert export_at(scripted, file).exit_code == 0
    assert scripted.calls[-1].after_cursor == "1-2"
    assert rows_of(file) == truth(scripted)


def test_ctrl_c_tells_that_it_can_go_on(scripted: ScriptedRegister, file: Path, tmp_path: Path) -> None:
    scripted.acts.extend([after(2, is_silent)])
    with running_until(scripted, file, lambda: saved_cursor(file, tmp_path) == "1-2") as running:
        running.interrupt()
        assert running.end() == (130, "stopped; run it again to go on\n")
    assert spool_of(file).exists()


def test_two_exports_into_one_file_do_not_mix(scripted: ScriptedRegister, file: Path, tmp_path: Path) -> None:
    scripted.acts.extend([after(2, is_silent)])
    with running_until(scripted, file, lambda: saved_cursor(file, tmp_path) == "1-2") as running:
        second = export_at(scripted, file)
        scripted.contexts[0].cancel()  # the first goes on from where it was
        assert running.end() == (0, "5 persons\n")

    assert (second.exit_code, second.stderr) == (1, f"another export writes {file}\n")
    assert rows_of(file) == truth(scripted)


def test_what_csv_has_no_place_for_can_still_be_written_as_json_without_reading_again(
    scripted: ScriptedRegister, file: Path
) -> None:
    special = person(D, 9)
    special.mailbox.operator_organisation_number = DIGIPOST
    special.mailbox.address = "ola.nordmann#9YDT"
    special.mailbox.certificate = b"certificate"
    scripted.commit(special)
    refused = export_at(scripted, file)
    refused_left = sorted(each.suffix for each in file.parent.iterdir())
    went_on = export_at(scripted, file, "--json-lines")

    assert refused.exit_code == 1
    assert refused_left == [".part", ".spool"]
    assert refused.stderr.startswith("change 9: CSV has no place for what mailboxes holds")
    assert D not in refused.stderr
    assert went_on.exit_code == 0
    assert scripted.calls[-1].after_cursor == "1-5"
    assert sorted(json.loads(line)["identifier"] for line in file.read_text().splitlines()) == ALL


def test_only_its_owner_may_read_what_waits(scripted: ScriptedRegister, file: Path, tmp_path: Path) -> None:
    scripted.acts.extend([after(2, is_silent)])
    before = os.umask(0)
    try:
        export_at(scripted, file, "--give-up-after", "0.3")
    finally:
        os.umask(before)

    assert [stat.S_IMODE(each.stat().st_mode) for each in tmp_path.glob("*.spool*")] == [0o600]


def test_a_file_that_is_no_spool_is_left_alone(scripted: ScriptedRegister, file: Path) -> None:
    spool_of(file).write_text("something else " * 100)
    refused = export_at(scripted, file)

    assert refused.exit_code == 1
    assert refused.stderr == f"cannot read or write {spool_of(file)}: file is not a database\n"
    assert spool_of(file).read_text() == "something else " * 100


@pytest.mark.parametrize("name", ["register.txt", "missing/register.csv"])
def test_where_it_goes_and_how_must_be_clear(name: str, tmp_path: Path) -> None:
    assert krr_at(0)("export", str(tmp_path / name)).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_what_the_feed_tells_of_a_person_is_loaded_and_nothing_else() -> None:
    deleted = person(A, 7, deleted=True)
    deleted.deletion_reason = person_pb2.DELETION_REASON_DEAD
    reserved = person(B, 8)
    reserved.email.value = "citizen@example.com"
    reserved.email.shared = True
    reserved.email.updated_time.seconds = 1
    reserved.email.usable_until_time.seconds = 2
    loaded = person_to_load(reserved)

    assert str(person_to_load(deleted)) == f'identifier: "{A}"\nstatus: PERSON_STATUS_DELETED\n'
    assert loaded.email == person_pb2.ContactPoint(
        value="citizen@example.com", updated_time=reserved.email.updated_time
    )
    assert not loaded.HasField("mobile")
