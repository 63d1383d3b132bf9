"""The schema: what migrations build, and what the register refuses to run on."""

import time
from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, NullPool, create_engine, text

from server.encoded_person import encode_person
from server.store import private_postgres, schema
from server.store.campaign_tables import campaign
from server.store.message_tables import message
from server.store.schema import UnsafeDatabase
from server.store.store import Store
from server.store.sweep_tables import sweep
from tests.open_folder import open_folder
from tests.store import steps
from tests.store.conftest import connect

# What autogenerate does not compare is compared as PostgreSQL itself writes it.
CATALOG = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
  UNION ALL
    SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
  UNION ALL
    SELECT table_name, column_name,
        concat_ws(' ', data_type, is_nullable, column_default, identity_generation)
    FROM information_schema.columns WHERE table_schema = 'public'
"""


def _catalog(url: str) -> set[tuple[str, ...]]:
    with connect(url) as connection:
        return {row for row in connection.execute(CATALOG.encode()) if row[0] != "alembic_version"}


@pytest.fixture
def migrated(database_url: str) -> Iterator[Connection]:
    with create_engine(database_url, poolclass=NullPool).connect() as connection:
        yield connection


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Connection]:
    with create_engine(empty_database_url, poolclass=NullPool).connect() as connection:
        yield connection


def test_the_migrations_build_the_tables_of_the_code(
    database_url: str, empty_database_url: str, migrated: Connection
) -> None:
    assert message.metadata is campaign.metadata is sweep.metadata
    assert compare_metadata(MigrationContext.configure(migrated), sweep.metadata) == []

    engine = create_engine(empty_database_url, poolclass=NullPool)
    sweep.metadata.create_all(engine)
    assert len(_catalog(database_url)) > 100
    assert _catalog(database_url) ^ _catalog(empty_database_url) == set()


def test_migrating_again_changes_nothing(database_url: str, migrated: Connection) -> None:
    rows = "SELECT epoch, caller_key, xmin::text FROM register"
    before = (_catalog(database_url), migrated.execute(text(rows)).one())
    revision = schema.migrate(migrated)
    assert revision == schema.migrate(migrated)
    assert (_catalog(database_url), migrated.execute(text(rows)).one()) == before


def test_two_who_migrate_at_once_both_find_the_newest_schema(empty_database_url: str) -> None:
    def migrate() -> str:
        with create_engine(empty_database_url, poolclass=NullPool).connect() as connection:
            revision = schema.migrate(connection)
            schema.check_schema(connection)
            return revision

    assert len(set(steps.together(migrate, migrate))) == 1
    with connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM register").fetchone() == (1,)


def test_each_register_has_an_epoch_and_a_key_of_its_own(database_url: str, empty: Connection) -> None:
    schema.migrate(empty)
    rows = "SELECT epoch, caller_key FROM register"
    with connect(database_url) as connection:
        [first] = connection.execute(rows).fetchall()
    second = tuple(empty.execute(text(rows)).one())
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert len(first[1]) == len(second[1]) == 32


def test_an_empty_database_is_refused_with_what_to_do(empty_database_url: str) -> None:
    with pytest.raises(UnsafeDatabase, match=r"has schema none, .* needs \d+: run `make migrate`"):
        Store(empty_database_url, encode_person, connections=1, require_durable=False)


def test_a_schema_that_the_code_does_not_know_is_refused(
    database_url: str, database: psycopg.Connection
) -> None:
    database.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnsafeDatabase, match="has schema 9999, this server needs"):
        Store(database_url, encode_person, connections=1, require_durable=False)


def test_a_postgresql_without_fsync_is_refused(database_url: str) -> None:
    with pytest.raises(UnsafeDatabase, match=r"fsync = off .* set fsync = on"):
        Store(database_url, encode_person, connections=1)


@pytest.fixture(scope="module")
def durable() -> Iterator[str]:
    """URL of a migrated register on a PostgreSQL with the settings of production."""
    with open_folder() as folder:
        running = private_postgres.start(folder, durable=True)
        with create_engine(running.url, poolclass=NullPool).connect() as connection:
            schema.migrate(connection)
        yield running.url
        running.stop()


def test_a_postgresql_as_it_comes_is_accepted(durable: str) -> None:
    Store(durable, encode_person, connections=1).close()


def test_a_database_that_does_not_wait_for_commits_is_refused(durable: str) -> None:
    with connect(durable) as database:
        database.execute("ALTER DATABASE krr SET synchronous_commit = off")
        with pytest.raises(UnsafeDatabase, match="synchronous_commit = off"):
            Store(durable, encode_person, connections=1)
        database.execute("ALTER DATABASE krr RESET synchronous_commit")


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_postgresql_that_may_forget_commits_is_refused_by_each_setting(durable: str, setting: str) -> None:
    with connect(durable) as database:
        for command, value in (("SET {} = off", "off"), ("RESET {}", "on")):
            database.execute(f"ALTER SYSTEM {command.format(setting)}".encode())
            database.execute("SELECT pg_reload_conf()")
            # The server is told by a signal, so it takes a moment.
            while database.execute(f"SHOW {setting}".encode()).fetchone() != (value,):
                time.sleep(0.01)
            if value == "off":
                with pytest.raises(UnsafeDatabase, match=f"{setting} = off"):
                    Store(durable, encode_person, connections=1)
