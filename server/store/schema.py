"""The schema of the database: bring it up to date, or refuse to serve on it."""

from pathlib import Path

import tenacity
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

# Held by whoever migrates, so that two at once wait for each other. Any constant will do.
_MIGRATION_LOCK = 7_221_114


class UnsafeDatabase(Exception):
    """The database cannot keep what the register promises; the text says what to change."""


def migrate(connection: Connection) -> str:
    """Bring the database to the newest schema and return its revision.

    Waits for a migration that is under way; does nothing where none is needed.
    """
    config = _alembic(connection)
    _lock(connection)
    # Statements that would wait for long in front of a serving register give up instead.
    connection.execute(text("SET lock_timeout = '4s'"))
    connection.commit()
    command.upgrade(config, "head")
    connection.commit()
    return ScriptDirectory.from_config(config).get_current_head() or ""


@tenacity.retry(retry=tenacity.retry_if_result(lambda locked: not locked), wait=tenacity.wait_fixed(0.1))
def _lock(connection: Connection) -> bool:
    # Asked for again and again: an index that is built beside writers waits for every statement
    # under way, and so for one that would wait for this lock.
    locked = connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _MIGRATION_LOCK})
    connection.commit()
    return bool(locked)


def check_schema(connection: Connection) -> None:
    """Raise UnsafeDatabase where the schema is not the one that this code knows."""
    found = MigrationContext.configure(connection).get_current_revision()
    script = ScriptDirectory.from_config(_alembic(connection))
    newest = script.get_current_head()
    if found == newest:
        return
    older = found is None or found in {revision.revision for revision in script.walk_revisions()}
    what_to_do = "run `make migrate`" if older else "a newer version made it: run that one"
    raise UnsafeDatabase(
        f"The database has schema {found or 'none'}, this server needs {newest}: {what_to_do}."
    )


def check_durability(connection: Connection) -> None:
    """Raise UnsafeDatabase where PostgreSQL may forget a commit that it acknowledged."""
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if connection.scalar(text("SELECT current_setting(:setting)"), {"setting": setting}) == "off":
            raise UnsafeDatabase(
                f"PostgreSQL runs with {setting} = off and may forget acknowledged writes: "
                f"set {setting} = on."
            )


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
