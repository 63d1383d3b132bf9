"""Where the register stands, told by the PostgreSQL that holds it."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import Connection, NullPool, create_engine

from server.store.epoch import (
    Identity,
    StandbyDatabase,
    Standing,
    begin_epoch,
    lock_standing,
    note_identity,
    read_standing,
)
from tests.store.conftest import connect
from tests.store.copied_postgres import loaded_from_dump, recovered, standby


@contextmanager
def transaction(url: str) -> Iterator[Connection]:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        yield connection


def standing(url: str) -> Standing:
    with transaction(url) as connection:
        return read_standing(connection)


def test_the_postgresql_that_serves_is_noted_when_told(database_url: str) -> None:
    before = standing(database_url)
    with transaction(database_url) as connection:
        note_identity(connection, before.found)

    assert before.noted is None
    assert standing(database_url) == replace(before, noted=before.found)


def test_databases_of_one_postgresql_have_its_identity(database_url: str, postgres: str) -> None:
    with connect(postgres) as connection:
        control = "SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()"
        row = connection.execute(control).fetchone()

    assert row is not None
    assert standing(database_url).found == standing(postgres).found == Identity(*row)


def test_no_change_gets_a_number_while_the_standing_is_locked(
    database_url: str, database: psycopg.Connection
) -> None:
    database.execute("SET lock_timeout = '50ms'")
    with transaction(database_url) as connection:
        locked = lock_standing(connection)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            database.execute("UPDATE register SET last_change_number = last_change_number + 1")
    database.execute("UPDATE register SET last_change_number = last_change_number + 1")

    assert standing(database_url).last_change_number == locked.last_change_number + 1


@pytest.mark.parametrize(("after", "number"), [(0, 7), (7, 7), (9, 9)])
def test_an_epoch_is_a_fresh_one_whose_numbers_go_on_above_both(
    database_url: str, database: psycopg.Connection, after: int, number: int
) -> None:
    database.execute("UPDATE register SET last_change_number = 7")
    before = standing(database_url)
    elsewhere = Identity(2**62, 2**32 - 1)
    with transaction(database_url) as connection:
        begun = begin_epoch(connection, elsewhere, after=after)

    assert begun[0] not in (before.epoch, uuid.UUID(int=0))
    assert standing(database_url) == Standing(*begun, noted=elsewhere, found=before.found)
    assert begun[1] == number


def test_a_standby_is_refused_until_promoted_and_is_then_another_timeline_at_once(
    database_url: str, database: psycopg.Connection
) -> None:
    primary = standing(database_url)
    with standby(database_url) as copied:
        for ask in (read_standing, lock_standing):
            with (
                pytest.raises(StandbyDatabase, match="is a standby: promote it"),
                transaction(copied) as held,
            ):
                ask(held)
        with connect(copied) as promoting:
            # What the first checkpoint of the promoted one has to write: it comes later.
            database.execute("CREATE TABLE filler AS SELECT generate_series(1, 50000)")
            _wait_until_it_arrived(database, promoting)
            promoting.execute("SELECT pg_promote()")
            promoted = standing(copied)
            checkpoint = promoting.execute("SELECT timeline_id FROM pg_control_checkpoint()").fetchone()

    assert promoted.found == replace(primary.found, timeline=primary.found.timeline + 1)
    assert checkpoint == (primary.found.timeline,)
    assert replace(promoted, found=primary.found) == primary


def test_what_was_recovered_from_a_backup_is_another_timeline(database_url: str) -> None:
    backed_up = standing(database_url)
    with recovered(database_url) as copied:
        found = standing(copied).found

    assert found == replace(backed_up.found, timeline=backed_up.found.timeline + 1)


def test_a_dump_that_is_loaded_elsewhere_is_another_postgresql(database_url: str) -> None:
    before = standing(database_url)
    with transaction(database_url) as connection:
        note_identity(connection, before.found)
    with loaded_from_dump(database_url) as copied:
        loaded = standing(copied)

    assert loaded.found.system_identifier != before.found.system_identifier
    assert replace(loaded, found=before.found) == replace(before, noted=before.found)


def _wait_until_it_arrived(primary: psycopg.Connection, copied: psycopg.Connection) -> None:
    written = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
    assert written is not None
    ends = time.monotonic() + 10
    while copied.execute("SELECT pg_last_wal_replay_lsn() >= %s", written).fetchone() != (True,):
        assert time.monotonic() < ends, "the standby is behind"
        time.sleep(0.02)
