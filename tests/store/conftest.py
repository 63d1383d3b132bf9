"""A store on the test's own database, and a connection of another client to it."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import make_url

from server.encoded_person import encode_person
from server.store.store import Store
from tests.conftest import opened


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """The store of an empty register, with a connection for each thread of a test."""
    register = opened(lambda: Store(database_url, encode_person, connections=12, require_durable=False))
    yield register
    register.close()


def connect(url: str) -> psycopg.Connection:
    """A connection that commits each statement, past the store."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    """Plain SQL on the register."""
    with connect(database_url) as connection:
        yield connection


@pytest.fixture
def postgresql(postgres: str) -> Iterator[psycopg.Connection]:
    """Plain SQL on the PostgreSQL that the databases of the tests are in."""
    with connect(make_url(postgres).set(database="postgres").render_as_string(hide_password=False)) as server:
        yield server


@pytest.fixture
def empty_database_url(postgres: str, postgresql: psycopg.Connection) -> Iterator[str]:
    """URL of a database without any schema."""
    name = f"test_{uuid.uuid4().hex}"
    postgresql.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
    postgresql.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
