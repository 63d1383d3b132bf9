"""The example of a copy in SQLite equals the register, however often it is killed while it follows."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import krr_client
import psycopg
import pytest
from krr.v1 import admin_service_pb2, person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from sqlalchemy import make_url

from tests.e2e.episode import START, Episode
from tests.e2e.parts import Parts, register_alone
from tests.e2e.watchers import read_on
from tests.e2e.writers import newcomers, write
from tests.open_folder import open_folder
from tests.people import PUBLIC_BODY

EXAMPLE = Path(__file__).parents[2] / "clients/python/examples/sqlite_copy.py"
# More than a page holds, so that a kill can hit between two pages of a restart.
LOADED = 2500
_SELECT = """
SELECT identifier, change_number, status, reservation, language, email, email_usable_until, mobile,
    mobile_usable_until, mailbox_operator, mailbox_address, mailbox_certificate
FROM person
"""


@pytest.mark.full_size_figures
def test_a_killed_copy_goes_on_and_equals_the_register_also_after_a_restored_backup(full_size: bool) -> None:
    kills = 50 if full_size else 5
    began, chance = time.monotonic(), random.Random(0)
    with open_folder() as folder, register_alone(folder) as parts:
        file = folder / "copy.sqlite"
        episode = Episode(parts.register, longest_watch=1)
        _load(parts, episode)
        with episode.under_way([write] * 8, []):
            episode.wait_for(100, "acknowledged writes")
            _back_up(parts)
            episode.wait_for(1, "loads by the administrator")
            for _ in range(kills // 2):
                _follow_and_kill(parts, file, chance)
            _follow_once(parts, file)
            before = _identifiers(parts)
            _restore(parts)
            for _ in range(kills - kills // 2):
                _follow_and_kill(parts, file, chance)
            episode.wait_for(100, "acknowledged writes")
        assert not episode.violations
        vanished = before - _identifiers(parts)
        assert vanished, "the backup lost nobody, so nothing was to be dropped"

        _follow_once(parts, file)

        register = read_on(parts.register, START, random.Random(0))
        with closing(sqlite3.connect(file)) as copy:
            rows = copy.execute(_SELECT).fetchall()
        assert sorted(rows) == sorted(_row(person) for person in register.values())
    writes = episode.counts["acknowledged writes"]
    print(f"{kills} kills of the copy and {writes} writes in {time.monotonic() - began:.0f} s;")
    print(f"{len(rows)} persons equal, {len(vanished)} dropped after the restored backup")


def _load(parts: Parts, episode: Episode) -> None:
    with krr_client.connect(parts.register, "Development administrator/test") as channel:
        persons = newcomers(episode, LOADED)
        for start in range(0, LOADED, 1000):
            request = admin_service_pb2.LoadPersonsRequest(persons=persons[start : start + 1000])
            AdminServiceStub(channel).LoadPersons(request)


def _follow_and_kill(parts: Parts, file: Path, chance: random.Random) -> None:
    """Run the example and kill it at a random moment: while it starts, or after a page or more."""
    with _following(parts, file) as process:
        if chance.random() < 0.3:
            time.sleep(chance.uniform(0, 1))
        else:
            _wait_for_a_page(file, process)
            time.sleep(chance.expovariate(1 / 0.05))
        assert process.poll() is None, f"it ended by itself: {_said(file)}"


def _follow_once(parts: Parts, file: Path) -> None:
    """Run the example until it is caught up."""
    with _following(parts, file, "--once") as process:
        assert process.wait(timeout=120) == 0, _said(file)


@contextmanager
def _following(parts: Parts, file: Path, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    command = [sys.executable, str(EXAMPLE), *arguments, parts.register]
    command += [f"Development public-body/{PUBLIC_BODY}", str(file)]
    with file.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _said(file: Path) -> str:
    return file.with_suffix(".log").read_text()


def _wait_for_a_page(file: Path, process: "subprocess.Popen[bytes]") -> None:
    ends, saved = time.monotonic() + 60, _cursor(file)
    while _cursor(file) == saved and process.poll() is None:
        assert time.monotonic() < ends, f"no page within a minute: {_said(file)}"
        time.sleep(0.01)


def _cursor(file: Path) -> str | None:
    with closing(sqlite3.connect(file, timeout=60)) as copy:
        has_begun = copy.execute("SELECT 1 FROM sqlite_schema WHERE name = 'state'").fetchone()
        row = copy.execute("SELECT cursor FROM state").fetchone() if has_begun else None
    return row[0] if row else None


def _back_up(parts: Parts) -> None:
    with parts.without_server():
        _on_the_cluster(parts, "CREATE DATABASE backup TEMPLATE krr")


def _restore(parts: Parts) -> None:
    """Go back to the backup, and decide for a new epoch."""
    with parts.without_server():
        _on_the_cluster(parts, "DROP DATABASE krr WITH (FORCE)", "ALTER DATABASE backup RENAME TO krr")
        parts.run_server_command("epoch", "new")


def _on_the_cluster(parts: Parts, *statements: str) -> None:
    url = make_url(parts.database_url)
    with psycopg.connect(
        host=str(url.query["host"]), user=url.username, dbname="postgres", autocommit=True
    ) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _identifiers(parts: Parts) -> set[str]:
    url = make_url(parts.database_url)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as connection:
        return {identifier for (identifier,) in connection.execute("SELECT identifier FROM person")}


def _row(person: person_pb2.Person) -> tuple[Any, ...]:
    def short(enum: Any, prefix: str, value: int) -> str:
        return str(enum.Name(value)).removeprefix(prefix)

    def usable_until(point: person_pb2.ContactPoint) -> str | None:
        return point.usable_until_time.ToJsonString() if point.HasField("usable_until_time") else None

    return (
        person.identifier,
        person.change_number,
        short(person_pb2.PersonStatus, "PERSON_STATUS_", person.status),
        short(person_pb2.Reservation, "RESERVATION_", person.reservation),
        short(person_pb2.Language, "LANGUAGE_", person.language),
        person.email.value or None,
        usable_until(person.email),
        person.mobile.value or None,
        usable_until(person.mobile),
        person.mailbox.operator_organisation_number or None,
        person.mailbox.address or None,
        person.mailbox.certificate or None,
    )
