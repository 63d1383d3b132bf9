"""Persons on their way from the feed into a file: kept so that a kill at any moment loses none."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from krr.v1 import person_pb2
from krr_client import ChangesPage

# Rows stand in the order in which they came, so that adding them costs the same however many
# there are. Who changed while the export ran came twice.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS person (
    place INTEGER PRIMARY KEY,
    identifier TEXT NOT NULL,
    change_number INTEGER NOT NULL,
    encoded BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS state (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    cursor TEXT NOT NULL
);
INSERT OR IGNORE INTO state VALUES (1, '');
"""

_LATEST = """
SELECT encoded FROM person WHERE NOT EXISTS (
    SELECT 1 FROM person AS later
    WHERE later.identifier = person.identifier
        AND (later.change_number, later.place) > (person.change_number, person.place)
) ORDER BY place
"""


class Spool:
    """An SQLite file of its owner's only.

    Raises sqlite3.Error; from another process that uses the file meanwhile too, with the
    errorcode SQLITE_BUSY.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        # Before SQLite does, which would let others read it.
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        self._database = sqlite3.connect(file, isolation_level=None, timeout=0)
        try:
            # Pages and cursors are written together, so a power cut may take the last of them:
            # they are read again. That needs no wait for the disk with each page.
            self._database.executescript(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;"
            )
            [(self.cursor,)] = self._database.execute("SELECT cursor FROM state")
        except sqlite3.Error:
            self._database.close()
            raise

    def save(self, page: ChangesPage) -> None:
        """Save the page and its cursor, both or neither; drop what was read before a restart."""
        with self._database:
            self._database.execute("BEGIN")
            if page.restarted:
                self._database.execute("DELETE FROM person")
            self._database.executemany(
                "INSERT INTO person (identifier, change_number, encoded) VALUES (?, ?, ?)",
                [(each.identifier, each.change_number, each.SerializeToString()) for each in page.persons],
            )
            self._database.execute("UPDATE state SET cursor = ?", (page.cursor,))
        self.cursor = page.cursor

    def count(self) -> int:
        """How many were saved; who changed meanwhile counts more than once."""
        [(count,)] = self._database.execute("SELECT count(*) FROM person")
        return int(count)

    def persons(self) -> Iterator[person_pb2.Person]:
        """Each person once, as of the highest change number."""
        self._database.execute("CREATE INDEX IF NOT EXISTS person_idx ON person (identifier, change_number)")
        for (encoded,) in self._database.execute(_LATEST):
            yield person_pb2.Person.FromString(encoded)

    def close(self) -> None:
        """Close the file; it can be gone on with."""
        self._database.close()

    def remove(self) -> None:
        """Remove the closed file."""
        # What was made of it is in the same folder: no power cut may take both.
        folder = os.open(self._file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._file.unlink()
