"""kill -9 of server and PostgreSQL during an import that goes on each time: the table equals the file."""

import random
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import krr_client
import psycopg
import pytest
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_import_pb2, person_pb2
from krr_cli.synthetic_identifiers import synthetic_identifiers
from krr_client.import_persons import import_persons

from tests.conftest import Register
from tests.e2e.parts import Parts, register_alone
from tests.open_folder import open_folder
from tests.server.database import connect, contents
from tests.server.importing import faults, feed, person, report, spoilt_person, wait_for_flags

ID = str(uuid.uuid4())
# Two chunks.
ROWS_BETWEEN_KILLS = 4_000

pytestmark = pytest.mark.full_size_figures


@dataclass
class File:
    """What is imported: its rows, the good persons among them, and what is to be reported."""

    rows: list[pb.ImportRow] = field(default_factory=list)
    good: dict[str, pb.PersonToLoad] = field(default_factory=dict)
    planted: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Finished:
    """A run with all its kills."""

    parts: Parts
    file: File
    imported: person_import_pb2.PersonImport
    cuts: int
    register: Register
    database: "psycopg.Connection[Any]"


def make_file(persons: int) -> File:
    chance = random.Random(0)
    file = File()
    for row, identifier in enumerate(islice(synthetic_identifiers(chance), persons), 1):
        one = person(row, identifier)
        if row % 97 == 0:
            one, where, reason = spoilt_person(row, identifier)
            file.planted.append((row, where, reason))
        elif row % 101 == 0:
            one = person(row, chance.choice(list(islice(file.good, 50))))
            file.planted.append((row, "identifier", "DUPLICATE_ROW"))
        else:
            file.good[identifier] = one
        file.rows.append(pb.ImportRow(row=row, person=one))
    return file


def received_row(parts: Parts) -> int:
    """How far the import is, as the database says."""
    with connect(parts.database_url) as database:
        rows = database.execute("SELECT received_row FROM person_import").fetchall()
    return int(rows[0][0]) if rows else 0


def kill_during(importing: "Future[Any]", parts: Parts, kills: Sequence[str]) -> None:
    """Kill one after the other while the import goes on."""
    chance = random.Random(0)
    for number, part in enumerate(kills, 1):
        while received_row(parts) < number * ROWS_BETWEEN_KILLS:
            assert not importing.done(), "the import ended before all kills"
            time.sleep(0.01)
        # Whatever it is about to do.
        time.sleep(chance.random() * 0.3)
        # A server that loses its database while it starts would have nobody to start it again.
        parts.wait_until_serving()
        parts.kill(part)


@pytest.fixture(scope="module")
def finished(full_size: bool) -> Iterator[Finished]:
    kills: tuple[str, ...] = ("server", "server", "postgres", "server", "server") * 2
    kills += ("postgres", "server", "server")
    kills = kills if full_size else ("server", "postgres")
    began: list[int] = []

    def rows_after(row: int) -> list[pb.ImportRow]:
        began.append(row)
        return file.rows[row:]

    # The last kill comes long before the last row.
    file = make_file((len(kills) + 3) * ROWS_BETWEEN_KILLS)
    with open_folder() as folder, register_alone(folder) as parts, ExitStack() as stack:
        channels = {
            caller: stack.enter_context(krr_client.connect(parts.register, f"Development {caller}"))
            for caller in ("administrator/test", "public-body/991825827")
        }
        # Not the kills: PostgreSQL ends with the thread that starts it.
        with ThreadPoolExecutor(1) as executor:
            importing = executor.submit(
                lambda: list(import_persons(channels["administrator/test"], ID, rows_after))[-1]
            )
            kill_during(importing, parts, kills)
            imported = importing.result()
        parts.wait_until_serving()
        database = stack.enter_context(connect(parts.database_url))
        wait_for_flags(database)
        yield Finished(parts, file, imported, len(began) - 1, Register(channels.__getitem__), database)


def test_the_rejected_rows_are_exactly_those_planted(finished: Finished) -> None:
    print(f"{len(finished.file.rows)} rows, cut {finished.cuts} times")
    assert finished.cuts, "the kills hit nothing"
    assert report(finished.register, ID, page_size=1000) == finished.file.planted
    assert finished.imported.rejected_count == len(finished.file.planted)


def test_the_table_equals_the_file(finished: Finished) -> None:
    assert finished.imported.loaded_count == len(finished.file.good)
    assert finished.imported.present_count == 0
    rows = finished.database.execute("""
        SELECT identifier, status, reserved,
            coalesce(language, ''), coalesce(email, ''), coalesce(mobile, ''),
            ARRAY(SELECT operator || address || chosen FROM mailbox WHERE person_id = person.id ORDER BY 1)
        FROM person ORDER BY identifier
    """).fetchall()
    assert rows == sorted(map(_row_of, finished.file.good.values()))


def test_the_feed_equals_the_file_and_nothing_is_wrong(finished: Finished) -> None:
    copy = feed(finished.register)

    assert {each: one.email.value for each, one in copy.items()} == {
        each: one.email.value for each, one in finished.file.good.items()
    }
    assert faults(finished.database) == {}
    assert contents(finished.database, ("delivery", "message")) == {"delivery": [], "message": []}


def test_nothing_personal_was_written_anywhere(finished: Finished) -> None:
    files = dict(finished.parts.written())
    assert {"server.log", "server.jsonl", "postgresql.log"} <= set(files)
    some = random.Random(1).sample(list(finished.file.good.values()), 300)
    for name, text in files.items():
        for each in some:
            assert each.identifier not in text, name
        assert "@example.com" not in text, name
        assert "person-" not in text, name


def _row_of(one: pb.PersonToLoad) -> tuple[Any, ...]:
    boxes: Sequence[person_pb2.Mailbox] = one.mailboxes
    chosen = one.chosen_operator_organisation_number
    return (
        one.identifier,
        person_pb2.PersonStatus.Name(one.status).removeprefix("PERSON_STATUS_"),
        one.reservation == person_pb2.RESERVATION_RESERVED,
        person_pb2.Language.Name(one.language).removeprefix("LANGUAGE_").lower() if one.language else "",
        one.email.value,
        one.mobile.value,
        sorted(
            f"{box.operator_organisation_number}{box.address}"
            f"{'true' if box.operator_organisation_number == chosen else 'false'}"
            for box in boxes
        ),
    )
