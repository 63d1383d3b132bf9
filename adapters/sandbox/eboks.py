"""Plays an operator that serves our contract (adapters/eboks/openapi.json)."""

import asyncio
import hashlib
import hmac
import json
import re
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

from jsonschema.protocols import Validator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.sandbox import keys
from adapters.sandbox.accounts import Accounts
from adapters.sandbox.contract import request_body
from adapters.sandbox.control import Behaviour, Switch, account_routes, sandbox_app

_CONTRACT = Path(__file__).parents[1] / "eboks" / "openapi.json"

# e-Boks's organisation number.
_CREDENTIAL = "Development operator/922020175"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS versions (identifier TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT;
-- Also what the control routes do to an account is a change of it.
CREATE TRIGGER IF NOT EXISTS account_inserted AFTER INSERT ON accounts BEGIN
  INSERT INTO versions VALUES (new.identifier, 1) ON CONFLICT DO UPDATE SET version = version + 1;
END;
CREATE TRIGGER IF NOT EXISTS account_updated AFTER UPDATE ON accounts BEGIN
  UPDATE versions SET version = version + 1 WHERE identifier = new.identifier;
END;
CREATE TABLE IF NOT EXISTS answers (
  idempotency_key TEXT PRIMARY KEY, request_hash TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
"""


def make_app(data_directory: Path, register: str) -> Starlette:
    """The operator with its accounts and its `token` file in data_directory.

    register: "host:port" of the register that hears of opened accounts.
    """
    file = data_directory / "accounts.sqlite"
    accounts = Accounts(file)
    operator = _Operator(file)
    token = keys.secret(data_directory / "token")
    switch = Switch()
    query_body = request_body(_CONTRACT, "/v1/public-mailbox/query", "post")
    list_body = request_body(_CONTRACT, "/v1/public-mailbox/list", "post")
    wish_body = request_body(_CONTRACT, "/v1/public-mailbox", "put")

    def refusal(request: Request, body: Any, validator: Validator) -> Response | None:
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            return _respond(*_problem(401, "UNAUTHORIZED"))
        if not validator.is_valid(body):
            return _respond(*_problem(400, "INVALID_REQUEST"))
        return None

    async def query(request: Request) -> Response:
        body = _json(await request.body())
        refused = refusal(request, body, query_body)
        return refused or _respond(*await asyncio.to_thread(operator.query, body["identifier"]))

    async def list_accounts(request: Request) -> Response:
        body = _json(await request.body())
        refused = refusal(request, body, list_body)
        return refused or _respond(*await asyncio.to_thread(operator.list, body["after"], body["limit"]))

    async def write(request: Request) -> Response:
        body = _json(await request.body())
        key, version = request.headers.get("idempotency-key", ""), request.headers.get("if-match", "")
        refused = refusal(request, body, wish_body)
        if refused is None and not (_is_uuid(key) and re.fullmatch('"[0-9]{1,18}"', version)):
            refused = _respond(*_problem(400, "INVALID_REQUEST"))
        if refused is None and switch.behaviour is Behaviour.REFUSE:
            refused = _respond(*_problem(409, "ACCOUNT_CLOSING"))
        return refused or _respond(
            *await asyncio.to_thread(
                operator.write, body["identifier"], body["receivesPublicMail"], int(version.strip('"')), key
            )
        )

    return sandbox_app(
        [
            Route("/v1/public-mailbox/query", query, methods=["POST"]),
            Route("/v1/public-mailbox/list", list_accounts, methods=["POST"]),
            Route("/v1/public-mailbox", write, methods=["PUT"]),
        ],
        switch,
        account_routes(accounts, register, _CREDENTIAL),
        reading_posts=["/v1/public-mailbox/query", "/v1/public-mailbox/list"],
    )


_Answer = tuple[int, dict[str, Any]]


class _Operator:
    """The operations, on the file of the accounts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with closing(self._connect()) as connection:
            connection.executescript(_SCHEMA)

    def query(self, identifier: str) -> _Answer:
        with closing(self._connect()) as connection:
            return 200, _state(connection, identifier)

    def list(self, after: str, limit: int) -> _Answer:
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT identifier, receives_public_mail, address, version"
                " FROM accounts JOIN versions USING (identifier) WHERE identifier > ?"
                " ORDER BY identifier LIMIT ?",
                (after, limit + 1),
            ).fetchall()
        accounts = [
            {
                "identifier": identifier,
                "receivesPublicMail": bool(receives),
                "address": address,
                "version": version,
            }
            for identifier, receives, address, version in rows[:limit]
        ]
        return 200, {"accounts": accounts, "last": len(rows) <= limit}

    def write(self, identifier: str, receives: bool, version: int, key: str) -> _Answer:
        request_hash = hashlib.sha256(json.dumps([identifier, receives, version]).encode()).hexdigest()
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            earlier = connection.execute(
                "SELECT request_hash, status, body FROM answers WHERE idempotency_key = ?", (key,)
            ).fetchone()
            if earlier:
                if earlier[0] != request_hash:
                    return _problem(422, "IDEMPOTENCY_KEY_REUSED")
                return earlier[1], json.loads(earlier[2])
            status, body = self._change(connection, identifier, receives, version)
            connection.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?)", (key, request_hash, status, json.dumps(body))
            )
            connection.execute("COMMIT")
            return status, body

    @staticmethod
    def _change(connection: sqlite3.Connection, identifier: str, receives: bool, version: int) -> _Answer:
        state = _state(connection, identifier)
        if not state["accountExists"]:
            return _problem(404, "NO_ACCOUNT")
        if state["version"] != version:
            return _problem(412, "VERSION_CONFLICT")
        connection.execute(
            "UPDATE accounts SET receives_public_mail = ? WHERE identifier = ?", (receives, identifier)
        )
        return 200, _state(connection, identifier)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=10, isolation_level=None)


def _state(connection: sqlite3.Connection, identifier: str) -> dict[str, Any]:
    row = connection.execute(
        "SELECT receives_public_mail, address, version FROM accounts JOIN versions USING (identifier)"
        " WHERE identifier = ?",
        (identifier,),
    ).fetchone()
    receives, address, version = row or (0, "", 0)
    return {
        "accountExists": row is not None,
        "receivesPublicMail": bool(receives),
        "address": address,
        "version": version,
    }


def _problem(status: int, code: str) -> _Answer:
    return status, {"type": f"/problems/{code.lower().replace('_', '-')}", "status": status, "code": code}


def _respond(status: int, body: dict[str, Any]) -> Response:
    media_type = "application/json" if status == 200 else "application/problem+json"
    return Response(json.dumps(body), status, media_type=media_type)


def _json(body: bytes) -> Any:
    """The body's value; None, which no schema takes, where it is not JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
