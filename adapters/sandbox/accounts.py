"""The accounts that a sandbox operator holds."""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

# Without letters and digits that are taken for one another.
_SUFFIX_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True)
class Account:
    """One citizen's account at the operator."""

    identifier: str
    address: str
    receives_public_mail: bool


class Accounts:
    """Accounts in one SQLite file; a change is on disk when its method returns.

    Safe to use from several threads: every call opens a connection of its own.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        with self._connection() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS accounts (identifier TEXT PRIMARY KEY,"
                " address TEXT NOT NULL, receives_public_mail INTEGER NOT NULL) STRICT"
            )

    def find(self, identifier: str) -> Account | None:
        """The person's account; None where there is none."""
        with self._connection() as connection:
            row = connection.execute(
                "SELECT address, receives_public_mail FROM accounts WHERE identifier = ?", (identifier,)
            ).fetchone()
        return Account(identifier, row[0], bool(row[1])) if row else None

    def list(self) -> list[Account]:
        """All accounts, by identifier."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT identifier, address, receives_public_mail FROM accounts ORDER BY identifier"
            ).fetchall()
        return [Account(identifier, address, bool(receives)) for identifier, address, receives in rows]

    def put(self, accounts: Iterable[Account]) -> None:
        """Add the accounts, in place of those that the same persons had; all or none."""
        with self._connection() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?)",
                [(account.identifier, account.address, account.receives_public_mail) for account in accounts],
            )

    def remove(self, identifiers: Iterable[str]) -> None:
        """Remove the persons' accounts, where they have one; all or none."""
        with self._connection() as connection:
            connection.executemany(
                "DELETE FROM accounts WHERE identifier = ?", [(identifier,) for identifier in identifiers]
            )

    def open(self, identifier: str) -> Account:
        """Make an account for the person, or return the one that exists."""
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(4))
        with self._connection() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO accounts VALUES (?, ?, 0)", (identifier, f"synthetic.person#{suffix}")
            )
            address, receives = connection.execute(
                "SELECT address, receives_public_mail FROM accounts WHERE identifier = ?", (identifier,)
            ).fetchone()
        return Account(identifier, address, bool(receives))

    def set_public_mail(self, identifier: str, receives_public_mail: bool) -> bool:
        """Switch public mail on or off; False where the person has no account."""
        with self._connection() as connection:
            changed = connection.execute(
                "UPDATE accounts SET receives_public_mail = ? WHERE identifier = ?",
                (receives_public_mail, identifier),
            )
        return changed.rowcount == 1

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._file, timeout=10)) as connection, connection:
            yield connection
