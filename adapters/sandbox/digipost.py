"""Plays api.digipost.no: entry point, identification, accounts and the tag for public mail.

Strict where the real one is known to be: signatures, hash, clock, schema, media type. What
is not published (how it answers for a person without an account) is a guess, marked below.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from lxml import etree
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters import digipost
from adapters.digipost import signing
from adapters.digipost.xml_body import MEDIA_TYPE, NAMESPACE, MalformedBody, compose, parse
from adapters.sandbox import keys
from adapters.sandbox.accounts import Accounts
from adapters.sandbox.control import Behaviour, Switch, account_routes, sandbox_app

# The sender that may administer tags, X-Digipost-UserId.
BROKER_ID = "1000"
OPERATOR_CREDENTIAL = "Development operator/984661185"

_SCHEMA = etree.XMLSchema(etree.parse(str(Path(digipost.__file__).with_name("api_v8.xsd"))))
_IDENTITY_NUMBER, _PHONE = re.compile("[0-9]{11}"), re.compile(r"\+[1-9][0-9]{7,14}")
_IDENTIFIER = f".//{{{NAMESPACE}}}personal-identification-number"


class _Refusal(Exception):
    def __init__(self, status: HTTPStatus, code: str, error_type: str, message: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.body = compose(
            "error", ("error-code", code), ("error-message", message or code), ("error-type", error_type)
        )


def make_app(data_directory: Path, register: str) -> Starlette:
    """The sandbox with its accounts and keys in `data_directory`, made on the first start.

    There stand: sender-key.pem (what the adapter signs with), server-key.pem,
    server-certificate.pem, accounts.sqlite.
    """
    server_key = keys.private_key(data_directory / "server-key.pem")
    sender_key = keys.private_key(data_directory / "sender-key.pem")
    certificate = keys.certificate_pem(
        data_directory / "server-certificate.pem", server_key, "api.digipost.no (sandbox)"
    )
    accounts = Accounts(data_directory / "accounts.sqlite")
    switch = Switch()
    # New at every start, so that nobody learns the links by heart.
    prefix = f"/{secrets.token_hex(4)}"
    links = {
        "identify_recipient": f"{prefix}/identification",
        "add_tag": f"{prefix}/Tags/add",
        "remove_tag": f"{prefix}/Tags/remove",
        "get_tags": f"{prefix}/Tags",
        "create_or_activate_user_account": f"{prefix}/UserAccounts",
    }
    door = _Door(server_key, sender_key.public_key(), switch)
    desk = _Desk(accounts, certificate, links)
    supplier = [
        Route("/", door.guard(desk.entry_point), methods=["GET"]),
        Route(links["identify_recipient"], door.guard(desk.identify, "identification"), methods=["POST"]),
        Route(links["add_tag"], door.guard(desk.add_tag, "tag"), methods=["POST"]),
        Route(links["remove_tag"], door.guard(desk.remove_tag, "tag"), methods=["POST"]),
        Route(links["get_tags"], door.guard(desk.get_tags), methods=["GET"]),
        Route(
            links["create_or_activate_user_account"],
            door.guard(desk.open_account, "user-information"),
            methods=["POST"],
        ),
        Route("/{path:path}", door.guard(desk.nothing_here)),
    ]
    return sandbox_app(
        supplier,
        switch,
        account_routes(accounts, register, OPERATOR_CREDENTIAL),
        reading_posts=[links["identify_recipient"]],
    )


def signed_answer(status: int, path: str, body: bytes, key: RSAPrivateKey, moment: datetime) -> Response:
    """An answer as Digipost signs it; path is the request's, as sent."""
    headers = {signing.DATE: signing.http_date(moment)}
    if body:
        headers[signing.CONTENT_SHA256] = signing.content_sha256(body)
    headers[signing.SIGNATURE] = signing.sign(signing.answer_string(status, path, headers), key)
    return Response(body, status, headers, media_type=MEDIA_TYPE if body else None)


class _Desk:
    """What is done for a request that got in; takes its XML body, None where there is none."""

    def __init__(self, accounts: Accounts, certificate: str, links: Mapping[str, str]) -> None:
        self._accounts = accounts
        self._certificate = certificate
        self._links = links

    def entry_point(self, request: Request, _body: Any) -> bytes:
        element = etree.fromstring(compose("entrypoint", ("certificate", self._certificate)))
        origin = str(request.base_url).rstrip("/")
        for relation, path in self._links.items():
            link = etree.SubElement(element, f"{{{NAMESPACE}}}link")
            link.set("rel", f"{origin}/relations/{relation.upper()}")
            link.set("uri", origin + path)
            link.set("media-type", MEDIA_TYPE)
        return bytes(etree.tostring(element, xml_declaration=True, encoding="UTF-8"))

    def identify(self, _request: Request, body: Any) -> bytes:
        identifier = body.findtext(_IDENTIFIER)
        if identifier is None:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "PROBLEM_WITH_REQUEST", "CLIENT_TECHNICAL")
        account = self._accounts.find(identifier)
        if account is None:
            answer = (("result", "UNIDENTIFIED"), ("unidentified-reason", "NOT_FOUND"))
        else:
            answer = (("result", "DIGIPOST"), ("digipost-address", account.address))
        return compose("identification-result", *answer)

    def add_tag(self, _request: Request, body: Any) -> bytes:
        return self._set_public_mail(body, True)

    def remove_tag(self, _request: Request, body: Any) -> bytes:
        return self._set_public_mail(body, False)

    def _set_public_mail(self, body: Any, receives_public_mail: bool) -> bytes:
        if not self._accounts.set_public_mail(body.findtext(_IDENTIFIER), receives_public_mail):
            # The code is published, its status here is a guess.
            raise _Refusal(HTTPStatus.NOT_FOUND, "UNKNOWN_USER", "CLIENT_DATA")
        return b""

    def open_account(self, _request: Request, body: Any) -> bytes:
        identifier, phone, email = (
            str(body.findtext(f"{{{NAMESPACE}}}{name}")).strip()
            for name in ("national-identity-number", "phone-number", "email-address")
        )
        if not (_IDENTITY_NUMBER.fullmatch(identifier) and _PHONE.fullmatch(phone) and "@" in email):
            # How the real one answers is a guess.
            raise _Refusal(HTTPStatus.BAD_REQUEST, "PROBLEM_WITH_REQUEST", "CLIENT_DATA")
        account = self._accounts.open(identifier)
        # The schema wants a key; here the certificate's will do, since nobody encrypts with it.
        return compose(
            "user-account", ("digipost-address", account.address), ("encryption-key", self._certificate)
        )

    def get_tags(self, request: Request, _body: Any) -> bytes:
        account = self._accounts.find(request.query_params.get("personal-identification-number", ""))
        # No tags for a person without an account: a guess.
        tagged = account is not None and account.receives_public_mail
        return compose("tags", *([("tag-type", "PUBLIC_MAILBOX_TAG")] if tagged else []))

    def nothing_here(self, _request: Request, _body: Any) -> bytes:
        raise _Refusal(HTTPStatus.NOT_FOUND, "GENERAL_ERROR", "CLIENT_TECHNICAL")


class _Door:
    """Lets requests in that are as they should be, and signs every answer."""

    def __init__(self, server_key: RSAPrivateKey, registered: RSAPublicKey, switch: Switch) -> None:
        self._server_key = server_key
        self._registered = registered
        self._switch = switch

    def guard(
        self, handle: Callable[[Request, Any], bytes], root: str | None = None
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that calls `handle`; root: of the body that it takes, None for no body."""

        async def endpoint(request: Request) -> Response:
            body = await request.body()
            # In a thread: signing and SQLite would hold up the event loop.
            return await asyncio.to_thread(self._answer, request, body, root, handle)

        return endpoint

    def _answer(
        self, request: Request, body: bytes, root: str | None, handle: Callable[[Request, Any], bytes]
    ) -> Response:
        status = HTTPStatus.OK
        try:
            self._check_sender(request, body)
            element = None if root is None else _checked_body(request, body, root)
            if self._switch.behaviour is Behaviour.REFUSE and request.url.path != "/":
                raise _Refusal(HTTPStatus.CONFLICT, "ACCOUNT_DEACTIVATED", "CLIENT_DATA")
            answer = handle(request, element)
        except _Refusal as refusal:
            status, answer = refusal.status, refusal.body
        return signed_answer(status, _path(request), answer, self._server_key, datetime.now(UTC))

    def _check_sender(self, request: Request, body: bytes) -> None:
        headers = request.headers
        if signing.DATE not in headers:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "MISSING_DATE_HEADER", "CLIENT_TECHNICAL")
        if not signing.is_now(headers[signing.DATE], datetime.now(UTC)):
            code = "DATE_HEADER_OUTSIDE_ACCEPTED_INTERVAL"
            raise _Refusal(HTTPStatus.BAD_REQUEST, code, "CLIENT_TECHNICAL")
        stated_hash = headers.get(signing.CONTENT_SHA256)
        if body and stated_hash is None:
            raise _Refusal(HTTPStatus.BAD_REQUEST, "MISSING_SHA256", "CLIENT_TECHNICAL")
        if stated_hash is not None and stated_hash != signing.content_sha256(body):
            raise _Refusal(HTTPStatus.BAD_REQUEST, "INVALID_SHA256", "CLIENT_TECHNICAL")
        if headers.get(signing.USER_ID) != BROKER_ID:
            raise _Refusal(HTTPStatus.FORBIDDEN, "UNKNOWN_USER_ID", "CLIENT_TECHNICAL")
        if signing.SIGNATURE not in headers:
            raise _Refusal(HTTPStatus.FORBIDDEN, "MISSING_SIGNATURE", "CLIENT_TECHNICAL")
        expected = signing.request_string(
            request.method, _path(request), request.scope["query_string"].decode("ascii"), headers
        )
        if not signing.is_signed_by(self._registered, expected, headers[signing.SIGNATURE]):
            # The real one, too, says what it would have signed.
            message = f"===START===\n{expected}===SLUTT==="
            raise _Refusal(HTTPStatus.FORBIDDEN, "INVALID_SIGNATURE", "CLIENT_TECHNICAL", message)


def _checked_body(request: Request, body: bytes, root: str) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != MEDIA_TYPE:
        raise _Refusal(HTTPStatus.BAD_REQUEST, "ILLEGAL_CONTENT_TYPE", "CLIENT_DATA")
    try:
        element = parse(body, root)
    except MalformedBody:
        element = None
    if element is None or not _SCHEMA.validate(element):
        raise _Refusal(HTTPStatus.BAD_REQUEST, "SCHEMA_VALIDATION_ERROR", "CLIENT_TECHNICAL")
    return element


def _path(request: Request) -> str:
    path: bytes = request.scope["raw_path"]
    return path.decode("ascii")
