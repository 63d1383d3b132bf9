"""Plays the mail server of everybody: takes mail by SMTP, with STARTTLS, and shows it."""

import asyncio
import os
import sqlite3
import ssl
from contextlib import closing
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.sandbox import keys
from adapters.sandbox.control import Behaviour, Switch, sandbox_app
from adapters.sandbox.pages import mail_page, mailboxes_page

_MAX_BYTES = 1024 * 1024
_READY_SECONDS = 30.0


def make_app(data_directory: Path, register: str) -> Starlette:  # noqa: ARG001 (as every sandbox)
    """The server with its mails in data_directory, and there its certificate, `certificate.pem`.

    KRR_SANDBOX_MAILBOX_SMTP: host:port where it takes mail, from now on; without it 127.0.0.1:50068.
    `GET /sandbox/messages` lists the mails, `/sandbox/mailbox` shows them to a browser. Down cuts every
    connection, slow waits before it takes a mail, refuse says 550 to every recipient, lose_answer takes
    the mail and cuts.
    """
    mails = _Mails(data_directory / "mails.sqlite")
    switch = Switch()
    host, _, port = (os.environ.get("KRR_SANDBOX_MAILBOX_SMTP") or "127.0.0.1:50068").rpartition(":")
    controller = Controller(
        _Handler(mails, switch),
        hostname=host,
        port=int(port),
        tls_context=_tls(data_directory),
        require_starttls=True,
        data_size_limit=_MAX_BYTES,
        decode_data=False,
        enable_SMTPUTF8=True,
        ready_timeout=_READY_SECONDS,
        ident="sandbox",
    )
    # For as long as the process lives, as its thread is a daemon.
    controller.start()

    async def list_messages(_request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(mails.list))

    async def show_all(_request: Request) -> Response:
        return mailboxes_page(await asyncio.to_thread(mails.list))

    async def show_one(request: Request) -> Response:
        found = [
            mail
            for mail in await asyncio.to_thread(mails.list)
            if mail["number"] == request.path_params["number"]
        ]
        return mail_page(found[0]) if found else Response(status_code=404)

    return sandbox_app(
        [],
        switch,
        [
            Route("/sandbox/messages", list_messages, methods=["GET"]),
            Route("/sandbox/mailbox", show_all, methods=["GET"]),
            Route("/sandbox/mailbox/{number:int}", show_one, methods=["GET"]),
        ],
    )


class _Handler:
    """aiosmtpd's hooks."""

    def __init__(self, mails: "_Mails", switch: Switch) -> None:
        self._mails = mails
        self._switch = switch

    async def handle_EHLO(
        self, server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if self._switch.behaviour is Behaviour.DOWN:
            _cut(server)
        return responses

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self._switch.behaviour is Behaviour.REFUSE:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        if self._switch.behaviour is Behaviour.SLOW:
            await asyncio.sleep(self._switch.slow_seconds)
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=default)
        await asyncio.to_thread(self._mails.add, mail, envelope.mail_from or "", envelope.rcpt_tos)
        if self._switch.behaviour is Behaviour.LOSE_ANSWER:
            _cut(server)
        return "250 2.0.0 taken"


class _Mails:
    """What was taken, in one SQLite file, oldest first."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS mails (number INTEGER PRIMARY KEY, recipient TEXT NOT NULL,"
                " return_address TEXT NOT NULL, sender TEXT NOT NULL, subject TEXT NOT NULL,"
                " text TEXT NOT NULL, html TEXT NOT NULL, message_id TEXT NOT NULL,"
                " received_time TEXT NOT NULL) STRICT"
            )

    def add(self, mail: EmailMessage, return_address: str, recipients: list[str]) -> None:
        text, html = mail.get_body(["plain"]), mail.get_body(["html"])
        row = (
            return_address,
            str(mail["From"]),
            str(mail["Subject"]),
            text.get_content() if text else "",
            html.get_content() if html else "",
            str(mail["Message-ID"]).strip("<>"),
            datetime.now(UTC).isoformat(),
        )
        with closing(sqlite3.connect(self._file, timeout=10)) as connection, connection:
            connection.executemany(
                "INSERT INTO mails (recipient, return_address, sender, subject, text, html, message_id,"
                " received_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(recipient, *row) for recipient in recipients],
            )

    def list(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self._file, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM mails ORDER BY number")]


def _tls(data_directory: Path) -> ssl.SSLContext:
    key, certificate = data_directory / "key.pem", data_directory / "certificate.pem"
    keys.certificate_pem(certificate, keys.private_key(key), "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def _cut(server: SMTP) -> None:
    assert isinstance(server.transport, asyncio.Transport)
    server.transport.abort()
