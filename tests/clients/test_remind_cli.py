"""`krr remind`: who is reminded, who is not and why, and what is left of a run that was killed."""

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from krr_cli.up import TEST_CITIZENS

from server.__main__ import Server
from tests.clients.command_line import Krr, krr_at
from tests.people import synthetic_identifiers
from tests.server.database import connect

PERSONS = 5_000


@pytest.fixture
def krr(server: Server) -> Krr:
    """The command line, against a register that holds the test citizens."""
    run = krr_at(server.port)
    assert run("load", str(TEST_CITIZENS)).exit_code == 0
    return run


@pytest.fixture
def database(database_url: str) -> Iterator["psycopg.Connection[Any]"]:
    """Plain SQL on the register."""
    with connect(database_url) as connection:
        yield connection


def _count(database: "psycopg.Connection[Any]", statement: str) -> int:
    [(count,)] = database.execute(statement.encode()).fetchall()
    return int(count)


def test_a_dry_run_tells_what_a_run_then_does_and_writes_to_nobody(
    krr: Krr, database: "psycopg.Connection[Any]"
) -> None:
    database.execute(
        "UPDATE person SET email_updated_time = now() - interval '17 months', email_confirmed_time = NULL"
        " WHERE id % 3 = 0 AND email IS NOT NULL"
    )

    told = krr("remind", "--dry-run", "--json")
    assert _count(database, "SELECT count(*) FROM message") == 0
    done = krr("remind", "--json")

    assert told.stdout == done.stdout
    counted = json.loads(done.stdout)
    written = sum(each["count"] for each in counted["reminders"])
    assert written == _count(database, "SELECT count(*) FROM message") > 0
    others = sum(each["count"] for each in counted["not_reminded"])
    assert written + others == counted["examined_count"] == int(counted["person_count"])
    again = json.loads(krr("remind", "--json").stdout)
    assert again["reminders"] == []


def test_the_table_explains_who_is_not_reminded(krr: Krr, database: "psycopg.Connection[Any]") -> None:
    database.execute(
        "UPDATE person SET email_updated_time = now() - interval '2 years', email_confirmed_time = NULL"
        " WHERE reserved AND email IS NOT NULL"
    )
    shown = krr("remind", "--dry-run")
    assert (shown.exit_code, shown.stderr) == (0, "")
    for words in ("would be reminded", "stale, but reserved", "deleted", "persons looked at"):
        assert words in shown.stdout


def test_a_run_that_was_killed_is_begun_again_and_nobody_hears_twice(
    server: Server, database: "psycopg.Connection[Any]"
) -> None:
    persons = list(itertools.islice(synthetic_identifiers(), PERSONS))
    database.execute(
        "INSERT INTO person (identifier, status, reserved, email, email_updated_time, change_number)"
        " SELECT identifier, 'ACTIVE', false, number || '@example.com', now() - interval '2 years', number"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS new (identifier, number)",
        [persons],
    )
    command = [sys.executable, "-m", "krr_cli", "remind", "--register", f"127.0.0.1:{server.port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as cut:
        while _count(database, "SELECT count(*) FROM message") == 0 and cut.poll() is None:
            time.sleep(0.01)
        cut.send_signal(signal.SIGKILL)
    # On a machine that stood still it may have come to its end.
    assert cut.returncode in (-signal.SIGKILL, 0)
    assert _count(database, "SELECT count(*) FROM message") > 0

    assert krr_at(server.port)("remind").exit_code == 0

    assert _count(database, "SELECT count(*) FROM message") == len(persons)
    assert _count(database, "SELECT count(DISTINCT person_id) FROM message") == len(persons)


def test_a_register_that_is_away_for_a_minute_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("krr_cli.remind._next_batch.retry.stop", lambda _: True)
    away = krr_at(1)("remind")
    assert (away.exit_code, away.stdout) == (3, "")
