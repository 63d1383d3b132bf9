"""Plays LINK Mobility's MyLINK: tokens, messages, and delivery reports to the caller's address.

As the real one it knows no message again: every accepted request is a message sent.
"""

import asyncio
import hmac
import json
import secrets
import sqlite3
import time
import uuid
from collections import deque
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.sandbox import keys
from adapters.sandbox.contract import request_body
from adapters.sandbox.control import Behaviour, Switch, sandbox_app
from adapters.sandbox.pages import phones_page

CLIENT_ID = "krr-sandbox"
TOKEN_PATH = "/auth/realms/CPaaS/protocol/openid-connect/token"

_CONTRACT = Path(__file__).parents[1] / "sms" / "mylink_sms_subset.openapi.json"
_TOKEN_SECONDS = 300
_MESSAGES_PER_SECOND = 1000
_SENT = 1001
_DELIVERED = 2000
# Seconds before each attempt to bring a report.
_REPORT_DELAYS = (0.05, 0.2, 1, 2, 5, 10, 30, 60)


def make_app(data_directory: Path, register: str) -> Starlette:  # noqa: ARG001 (as every sandbox)
    """The gateway with its messages and its `client-secret` file in data_directory.

    `GET /sandbox/messages` lists what was sent, `/sandbox/phones` shows it to a browser.
    `PUT /sandbox/report {"code": 4003}` makes that the last report of messages to come, until
    {"code": 2000}.
    """
    secret = keys.secret(data_directory / "client-secret")
    messages = _Messages(data_directory / "messages.sqlite")
    contract = request_body(_CONTRACT, "/sms/v1/messages", "post")
    switch = Switch()
    tokens: dict[str, float] = {}
    arrivals: deque[float] = deque(maxlen=_MESSAGES_PER_SECOND)
    last_report = {"code": _DELIVERED}
    reporting: set[asyncio.Task[None]] = set()

    async def token(request: Request) -> Response:
        async with request.form() as form:
            given = str(form.get("client_secret", ""))
            right = form.get("client_id") == CLIENT_ID and hmac.compare_digest(
                given.encode(), secret.encode()
            )
            if not right or form.get("grant_type") != "client_credentials":
                return JSONResponse({"error": "unauthorized_client"}, 401)
        issued = secrets.token_urlsafe(32)
        tokens[issued] = time.monotonic() + _TOKEN_SECONDS
        return JSONResponse({"access_token": issued, "expires_in": _TOKEN_SECONDS, "token_type": "Bearer"})

    async def send(request: Request) -> Response:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or tokens.get(given, 0) < time.monotonic():
            return JSONResponse({"message": "Unauthorized"}, 401)
        now = time.monotonic()
        if len(arrivals) == _MESSAGES_PER_SECOND and now - arrivals[0] < 1:
            return _error(429, description="Too many requests", code="429")
        arrivals.append(now)
        try:
            batch = json.loads(await request.body())
        except ValueError:
            batch = None
        if not batch or not contract.is_valid(batch) or switch.behaviour is Behaviour.REFUSE:
            return _error(400, message="Invalid request")
        request_id = str(uuid.uuid4())
        sent = [{**message, "messageId": str(uuid.uuid4())} for message in batch]
        await asyncio.to_thread(messages.add, sent)
        for message in sent:
            task = asyncio.create_task(_report(message, request_id, last_report["code"]))
            reporting.add(task)
            task.add_done_callback(reporting.discard)
        accepted = [
            {key: message.get(key) for key in ("messageId", "referenceId", "recipient")} for message in sent
        ]
        return JSONResponse({"requestId": request_id, "messages": accepted}, 202)

    async def list_messages(_request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(messages.list))

    async def show_phones(_request: Request) -> Response:
        return phones_page(await asyncio.to_thread(messages.list))

    async def put_report(request: Request) -> Response:
        last_report["code"] = int((await request.json())["code"])
        return JSONResponse(last_report)

    return sandbox_app(
        [
            Route(TOKEN_PATH, token, methods=["POST"]),
            Route("/sms/v1/messages", send, methods=["POST"]),
        ],
        switch,
        [
            Route("/sandbox/messages", list_messages, methods=["GET"]),
            Route("/sandbox/phones", show_phones, methods=["GET"]),
            Route("/sandbox/report", put_report, methods=["PUT"]),
        ],
        reading_posts=[TOKEN_PATH],
    )


class _Messages:
    """What was sent, in one SQLite file, oldest first."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS messages (reference_id TEXT, recipient TEXT NOT NULL,"
                " text TEXT NOT NULL, received_time TEXT NOT NULL, message_id TEXT NOT NULL) STRICT"
            )

    def add(self, messages: list[dict[str, Any]]) -> None:
        received = datetime.now(UTC).isoformat()
        rows = [
            (m.get("referenceId"), m["recipient"], m["content"]["text"], received, m["messageId"])
            for m in messages
        ]
        with closing(sqlite3.connect(self._file, timeout=10)) as connection, connection:
            connection.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", rows)

    def list(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self._file, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM messages ORDER BY rowid")]


async def _report(message: dict[str, Any], request_id: str, last: int) -> None:
    """Tell the callback that the message was sent, then the last report; each until it is taken."""
    callback = message.get("callback", {})
    if callback.get("mode") != "URL":
        return
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for code in (_SENT, last):
            body = {
                "eventId": str(uuid.uuid4()),
                "channel": "sms",
                "recipient": message["recipient"],
                "timeStamp": datetime.now(UTC).isoformat(),
                "status": {
                    "requestId": request_id,
                    "referenceId": message.get("referenceId"),
                    "messageId": message["messageId"],
                    "type": {_SENT: "sent", _DELIVERED: "delivered"}.get(code, "failed"),
                    "code": code,
                    "segments": 1,
                },
            }
            for url in callback.get("urls") or ():
                await _post(client, url, body)


async def _post(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> None:
    for delay in _REPORT_DELAYS:
        await asyncio.sleep(delay)
        try:
            answer = await client.post(url, json=body)
        except httpx.HTTPError:
            continue
        if answer.status_code == 200:
            return


def _error(status: int, **said: str) -> Response:
    return JSONResponse({"requestId": str(uuid.uuid4()), **said}, status)
