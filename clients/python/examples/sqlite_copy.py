"""Keeps a copy of the register in an SQLite file, and keeps it right.

    python sqlite_copy.py 127.0.0.1:50051 "Development public-body/991825827" copy.sqlite

May you? The register is to be looked up at each dispatch, and may not be imported into
registers of one's own (eForvaltningsforskriften §§ 29 to 32): persons reserve themselves any
day, and contact info that was not confirmed for 18 months may not be used for notices (§ 32
second paragraph), so that a copy that lags sends letters wrong. Copies are allowed to few,
and the feed is a right of its own. Who may keep one still obeys *_usable_until and
reservation at the moment of each dispatch.

It may be killed at any moment, and goes on where it was when it is started again: a page's
persons and the cursor after it are saved in one transaction. Each person carries the
generation in which it came. A restart of the feed begins a new generation, and when it is
caught up, what is of an older one is deleted. Whether a restart is under way is saved too,
so that a kill in the middle of one only interrupts it.

A deleted person stays as a row whose status is DELETED, without contact info. The columns
hold what the register says; empty ones are NULL.
"""

import argparse
import os
import sqlite3
import sys
from contextlib import closing, suppress
from typing import Any

from krr.v1 import person_pb2
from krr_client import ChangesPage, RegisterError, connect, follow_changes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS person (
    identifier TEXT PRIMARY KEY,
    change_number INTEGER NOT NULL,
    status TEXT NOT NULL,
    reservation TEXT NOT NULL,
    language TEXT NOT NULL,
    email TEXT,
    email_usable_until TEXT,
    mobile TEXT,
    mobile_usable_until TEXT,
    mailbox_operator TEXT,
    mailbox_address TEXT,
    mailbox_certificate BLOB,
    generation INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    cursor TEXT NOT NULL,
    generation INTEGER NOT NULL,
    is_restarting INTEGER NOT NULL
);
INSERT OR IGNORE INTO state VALUES (1, '', 0, 0);
"""

# Within a generation an older version of a person never takes a newer one's place. In a new
# one it may: a register restored from a backup counts on from an older number.
_SAVE_PERSON = """
INSERT INTO person VALUES (
    :identifier, :change_number, :status, :reservation, :language, :email, :email_usable_until,
    :mobile, :mobile_usable_until, :mailbox_operator, :mailbox_address, :mailbox_certificate, :generation
)
ON CONFLICT (identifier) DO UPDATE SET
    change_number = excluded.change_number,
    status = excluded.status,
    reservation = excluded.reservation,
    language = excluded.language,
    email = excluded.email,
    email_usable_until = excluded.email_usable_until,
    mobile = excluded.mobile,
    mobile_usable_until = excluded.mobile_usable_until,
    mailbox_operator = excluded.mailbox_operator,
    mailbox_address = excluded.mailbox_address,
    mailbox_certificate = excluded.mailbox_certificate,
    generation = excluded.generation
WHERE excluded.generation > person.generation OR excluded.change_number > person.change_number
"""


class OtherWriter(Exception):
    """Another process keeps this copy."""


class Copy:
    """The file. Raises sqlite3.Error."""

    def __init__(self, file: str) -> None:
        # What is in it is nobody else's to read.
        os.umask(0o077)
        self._database = sqlite3.connect(file, isolation_level=None)
        # Contact info that is gone is gone from the file too.
        self._database.execute("PRAGMA secure_delete = ON")
        self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        self.cursor: str = self._state()[0]

    def save(self, page: ChangesPage) -> None:
        """Save the page and its cursor, both or neither. Raises OtherWriter."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            saved_cursor, generation, is_restarting = self._state()
            if saved_cursor != self.cursor:
                raise OtherWriter
            if page.restarted:
                generation += 1
                is_restarting = True
            self._database.executemany(
                _SAVE_PERSON, [_row(person) | {"generation": generation} for person in page.persons]
            )
            if page.caught_up and is_restarting:
                self._database.execute("DELETE FROM person WHERE generation < ?", (generation,))
                is_restarting = False
            self._database.execute(
                "UPDATE state SET cursor = ?, generation = ?, is_restarting = ?",
                (page.cursor, generation, is_restarting),
            )
        self.cursor = page.cursor

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _state(self) -> Any:
        return self._database.execute("SELECT cursor, generation, is_restarting FROM state").fetchone()


def _row(person: person_pb2.Person) -> dict[str, Any]:
    return {
        "identifier": person.identifier,
        "change_number": person.change_number,
        "status": _name(person_pb2.PersonStatus, person.status),
        "reservation": _name(person_pb2.Reservation, person.reservation),
        "language": _name(person_pb2.Language, person.language),
        "email": person.email.value or None,
        "email_usable_until": _usable_until(person.email),
        "mobile": person.mobile.value or None,
        "mobile_usable_until": _usable_until(person.mobile),
        "mailbox_operator": person.mailbox.operator_organisation_number or None,
        "mailbox_address": person.mailbox.address or None,
        "mailbox_certificate": person.mailbox.certificate or None,
    }


def _name(enum: Any, value: int) -> str:
    # A register newer than this program may have more values than it knows.
    if value not in enum.values():
        return str(value)
    prefix: str = enum.Name(0).removesuffix("UNSPECIFIED")
    name: str = enum.Name(value)
    return name.removeprefix(prefix)


def _usable_until(point: person_pb2.ContactPoint) -> str | None:
    return point.usable_until_time.ToJsonString() if point.HasField("usable_until_time") else None


def main() -> int:
    """Follow the register until killed; with --once, until caught up."""
    parser = argparse.ArgumentParser(
        description="Keeps a copy of the register in an SQLite file. Read the law at its top first.",
        epilog="An argument @FILE stands for what the file holds: a credential that `ps` does not show.",
        fromfile_prefix_chars="@",
    )
    parser.add_argument("address", help="host:port of the register")
    parser.add_argument("credential", help="the value of the authorization metadata")
    parser.add_argument("file", help="the SQLite file, made if missing")
    parser.add_argument("--once", action="store_true", help="end once the copy is caught up")
    given = parser.parse_args()
    try:
        with closing(Copy(given.file)) as copy, connect(given.address, given.credential) as channel:
            for page in follow_changes(channel, copy.cursor):
                copy.save(page)
                if given.once and page.caught_up:
                    break
    except OtherWriter:
        sys.stderr.write("another process keeps this copy\n")
    except (RegisterError, sqlite3.Error) as error:
        sys.stderr.write(f"{error}\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
