"""What stands in the database, seen beside the server."""

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

# What is the register's state; `request` apart, since an operator's refused event stands there.
REGISTER_TABLES = (
    *("person", "mailbox", "delivery", "message", "verification_code", "history", "certificate"),
    "register",
)


def connect(database_url: str) -> "psycopg.Connection[Any]":
    """A connection in autocommit to the database at SQLAlchemy's URL."""
    url = make_url(database_url)
    return psycopg.connect(
        host=str(url.query["host"]), user=url.username, dbname=url.database, autocommit=True
    )


def contents(
    connection: "psycopg.Connection[Any]", tables: Sequence[str] = REGISTER_TABLES
) -> dict[str, list[Any]]:
    """Every row of the tables."""
    statement = sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1")
    return {table: connection.execute(statement.format(sql.Identifier(table))).fetchall() for table in tables}
