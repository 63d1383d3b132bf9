"""The example program keeps a right copy in a file, whenever it is killed."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from krr.v1 import person_pb2

from tests.clients.conftest import CREDENTIAL
from tests.clients.feed_copy import ENOUGH_SECONDS, A, B, D, person
from tests.clients.scripted_register import ScriptedRegister, after, is_silent, right
from tests.clients.test_follow_changes import CUTS, restores

PROGRAM = Path(__file__).parents[2] / "clients/python/examples/sqlite_copy.py"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copy.sqlite"


def command(scripted: ScriptedRegister, file: Path, *options: str) -> list[str]:
    return [sys.executable, str(PROGRAM), f"127.0.0.1:{scripted.port}", CREDENTIAL, str(file), *options]


def run_once(scripted: ScriptedRegister, file: Path) -> None:
    subprocess.run(command(scripted, file, "--once"), check=True, timeout=ENOUGH_SECONDS)


def killed_when(scripted: ScriptedRegister, file: Path, condition: Callable[[], bool]) -> None:
    """Run it, and end it with SIGKILL as soon as the condition holds."""
    with subprocess.Popen(command(scripted, file)) as running:
        give_up = time.monotonic() + ENOUGH_SECONDS
        while not condition() and time.monotonic() < give_up:
            time.sleep(0.02)
        running.kill()
    assert condition()


def persons(file: Path) -> dict[str, tuple[int, str]]:
    with closing(sqlite3.connect(file)) as database:
        rows = database.execute("SELECT identifier, change_number, status FROM person").fetchall()
    return {identifier: (change_number, status) for identifier, change_number, status in rows}


def saved_cursor(file: Path) -> str:
    """Empty where there is no file yet."""
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            cursor: str = database.execute("SELECT cursor FROM state").fetchone()[0]
    except sqlite3.OperationalError:
        return ""
    return cursor


def is_restarting(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as database:
        return bool(database.execute("SELECT is_restarting FROM state").fetchone()[0])


def truth(scripted: ScriptedRegister) -> dict[str, tuple[int, str]]:
    names = {person_pb2.PERSON_STATUS_ACTIVE: "ACTIVE", person_pb2.PERSON_STATUS_DELETED: "DELETED"}
    return {
        each.identifier: (each.change_number, names[each.status]) for page in scripted.pages for each in page
    }


@pytest.mark.parametrize(
    "cut",
    ["nothing", "a person older than already seen", "unavailable after each page", "reset in the middle"],
)
def test_it_ends_with_what_the_register_holds(scripted: ScriptedRegister, file: Path, cut: str) -> None:
    scripted.acts.extend(CUTS[cut](scripted))

    run_once(scripted, file)

    assert persons(file) == truth(scripted)


def test_it_goes_on_after_a_kill_and_keeps_what_did_not_come_again(
    scripted: ScriptedRegister, file: Path
) -> None:
    scripted.acts.append(after(2, is_silent))
    killed_when(scripted, file, lambda: saved_cursor(file) == "1-2")

    run_once(scripted, file)

    assert persons(file) == truth(scripted)
    assert [call.after_cursor for call in scripted.calls] == ["", "1-2"]


def test_a_kill_in_the_middle_of_a_restart_only_interrupts_it(scripted: ScriptedRegister, file: Path) -> None:
    run_once(scripted, file)
    assert D in persons(file)
    scripted.acts.extend([restores(scripted), after(1, is_silent)])
    killed_when(scripted, file, lambda: saved_cursor(file) == "2-1")
    assert D in persons(file)
    assert is_restarting(file)

    run_once(scripted, file)

    assert persons(file) == truth(scripted)
    assert not is_restarting(file)
    assert D not in persons(file)
    assert scripted.calls[-1].after_cursor == "2-1"


def test_a_kill_before_the_first_page_of_a_restart_begins_it_again(
    scripted: ScriptedRegister, file: Path
) -> None:
    run_once(scripted, file)
    calls = len(scripted.calls)
    scripted.acts.extend([restores(scripted), is_silent])
    killed_when(scripted, file, lambda: len(scripted.calls) == calls + 2)

    run_once(scripted, file)

    assert persons(file) == truth(scripted)


def test_a_restart_after_a_restart_that_was_not_complete_is_right_too(
    scripted: ScriptedRegister, file: Path
) -> None:
    run_once(scripted, file)
    scripted.acts.extend([restores(scripted), after(1, restores(scripted)), right])

    run_once(scripted, file)

    assert persons(file) == truth(scripted)


def test_a_page_that_cannot_be_saved_whole_is_not_saved_at_all(
    scripted: ScriptedRegister, file: Path
) -> None:
    scripted.pages = scripted.pages[:2]
    run_once(scripted, file)
    before = persons(file)
    with closing(sqlite3.connect(file)) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON state BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    scripted.commit(person(D, 5), person(B, 6, deleted=True))

    ended = subprocess.run(command(scripted, file), stderr=subprocess.PIPE, timeout=ENOUGH_SECONDS)

    assert (ended.returncode, ended.stderr) == (1, b"the disk is full\n")
    assert persons(file) == before
    assert saved_cursor(file) == "1-2"


def test_a_deleted_person_leaves_no_contact_info_in_the_file(scripted: ScriptedRegister, file: Path) -> None:
    address = b"somebody.in.particular@example.com"
    known = [person(A, 1), person(B, 2), person(D, 3)]
    for each in known:
        each.email.value = address.decode()
    scripted.pages = [known]
    run_once(scripted, file)
    assert file.read_bytes().count(address) == 3

    scripted.commit(*(person(each.identifier, number, deleted=True) for number, each in enumerate(known, 4)))
    run_once(scripted, file)

    assert persons(file) == truth(scripted)
    assert address not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0


def test_two_of_them_on_one_file_are_not_both_let_on(scripted: ScriptedRegister, file: Path) -> None:
    scripted.acts.extend([after(1, is_silent), right])
    first = subprocess.Popen(command(scripted, file))
    while saved_cursor(file) != "1-1":
        time.sleep(0.02)
    run_once(scripted, file)
    scripted.contexts[0].cancel()  # the first goes on from where it was, and finds the file changed

    with first:
        assert first.wait(ENOUGH_SECONDS) == 1
    assert persons(file) == truth(scripted)
