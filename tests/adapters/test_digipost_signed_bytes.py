"""One byte changed of what is signed: the sandbox refuses the request, the adapter the answer.

Excepted is what the signature leaves out: letter case of path and query, unsigned headers,
and the answer with the entry point.
"""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from adapters.adapter import Done, TryLater
from adapters.digipost import signing
from adapters.digipost.xml_body import MEDIA_TYPE, compose
from adapters.sandbox import keys
from adapters.sandbox.digipost import BROKER_ID
from tests.adapters.digipost_sandbox import Digipost, Liar, digipost_running, liar_running
from tests.adapters.sandbox import PERSON

TAG = compose("tag", ("public-mailbox-tag/personal-identification-number", PERSON))
TAGGED = compose("tags", ("tag-type", "PUBLIC_MAILBOX_TAG"))
HEADERS = (signing.DATE, signing.CONTENT_SHA256, signing.USER_ID)


@pytest.fixture(scope="module")
def sandbox(digipost_keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digipost]:
    data = tmp_path_factory.mktemp("digipost")
    for file in digipost_keys.glob("*.pem"):
        (data / file.name).write_bytes(file.read_bytes())
    with digipost_running(data) as running:
        running.begin_anew()
        yield running


@pytest.fixture(scope="module")
def liar(digipost_keys: Path) -> Iterator[Liar]:
    with liar_running(digipost_keys) as running:
        yield running


# --- requests


@dataclass(frozen=True)
class Signed:
    """A soundly signed request, as its parts."""

    parts: Mapping[str, bytes]
    signature: str

    def sent(self, host: str, changed: Mapping[str, bytes]) -> int:
        """The status that the request gets with these parts in place of its own, 0 for none."""
        parts = {**self.parts, **changed}
        query = b"?" + parts["query"] if self.parts["query"] else b""
        lines = [
            b"%s %s%s HTTP/1.1" % (parts["method"], parts["path"], query),
            b"Host: %s" % host.encode(),
            b"Connection: close",
            b"Content-Type: %s" % MEDIA_TYPE.encode(),
            b"Content-Length: %d" % len(parts["body"]),
            *(b"%s: %s" % (name.encode(), parts[name]) for name in HEADERS if name in parts),
            b"%s: %s" % (signing.SIGNATURE.encode(), self.signature.encode()),
        ]
        with socket.create_connection(tuple(host.split(":")), timeout=5) as connection:  # type: ignore[arg-type]  # a port's digits do
            connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + parts["body"])
            answer = connection.makefile("rb").readline().split()
        return int(answer[1]) if answer else 0


def signed_request(sandbox: Digipost, relation: str, query: str, body: bytes) -> Signed:
    method, path = "POST" if body else "GET", httpx.URL(sandbox.links()[relation]).path
    headers = {signing.DATE: signing.http_date(datetime.now(UTC)), signing.USER_ID: BROKER_ID}
    if body:
        headers[signing.CONTENT_SHA256] = signing.content_sha256(body)
    string = signing.request_string(method, path, query, headers)
    parts = {"method": method, "path": path, "query": query, **headers}
    return Signed(
        {**{name: value.encode() for name, value in parts.items()}, "body": body},
        signing.sign(string, sandbox.key),
    )


def with_one_byte_changed(parts: Mapping[str, bytes], position: int, new: int) -> tuple[str, bytes]:
    """The part in which the byte at `position` of all of them lies, with `new` for that byte."""
    for name, value in parts.items():
        if position < len(value):
            assume(value[position] != new)
            return name, value[:position] + bytes([new]) + value[position + 1 :]
        position -= len(value)
    raise AssertionError(position)


@pytest.mark.parametrize(
    ("relation", "query", "body"),
    [("add_tag", "", TAG), ("get_tags", f"personal-identification-number={PERSON}", b"")],
)
def test_a_request_changed_in_any_signed_byte_is_refused_by_the_sandbox(
    sandbox: Digipost, relation: str, query: str, body: bytes
) -> None:
    sound = signed_request(sandbox, relation, query, body)
    host = sandbox.url.removeprefix("http://")
    positions = st.integers(0, sum(map(len, sound.parts.values())) - 1)

    @settings(max_examples=250, deadline=None)
    @given(position=positions, new=st.integers(0, 255))
    def changed(position: int, new: int) -> None:
        name, value = with_one_byte_changed(sound.parts, position, new)
        if name in ("path", "query"):
            assume(value.lower() != sound.parts[name].lower())
        # Space around a header's value is not part of it.
        assume(name not in HEADERS or value.strip(b" \t") != sound.parts[name])
        assert not 200 <= sound.sent(host, {name: value}) < 300

    changed()
    assert not sandbox.receives_public_mail()
    # That it would have been taken, and so that the test could have failed.
    assert sound.sent(host, {}) == 200
    assert sandbox.receives_public_mail() == (relation == "add_tag")
    sandbox.begin_anew()


# --- answers


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_an_answer_changed_in_any_signed_byte_is_refused_by_the_adapter(
    liar: Liar, data: st.DataObject
) -> None:
    sound = answer_parts()
    position = data.draw(st.integers(0, sum(map(len, sound.values())) - 1))
    name, value = with_one_byte_changed(sound, position, data.draw(st.integers(0, 255)))
    # Others are no end of an answer in HTTP.
    assume(name != "status" or (value.isdigit() and 200 <= int(value) < 600))
    liar.answer = lambda request: answer_with(liar, request, sound, {name: value})
    assert isinstance(liar.switch(), TryLater)


def test_the_answer_unchanged_is_believed(liar: Liar) -> None:
    liar.answer = lambda request: answer_with(liar, request, answer_parts(), {})
    assert liar.switch() == Done()


def answer_parts() -> dict[str, bytes]:
    return {
        "status": b"200",
        signing.DATE: signing.http_date(datetime.now(UTC)).encode(),
        signing.CONTENT_SHA256: signing.content_sha256(TAGGED).encode(),
        "body": TAGGED,
    }


def answer_with(
    liar: Liar, request: Request, sound: Mapping[str, bytes], changed: Mapping[str, bytes]
) -> Response:
    """The answer with the signature of the sound one, and these parts in place of its own."""
    signed = {name: value.decode() for name, value in sound.items() if name in HEADERS}
    signature = signing.sign(signing.answer_string(200, request.url.path, signed), liar.key)
    parts = {**sound, **changed}
    response = Response(parts["body"], int(parts["status"]))
    response.raw_headers += [(name.lower().encode(), parts[name]) for name in signed]
    response.raw_headers.append((signing.SIGNATURE.lower().encode(), signature.encode()))
    return response


@pytest.fixture(scope="module")
def some_key(digipost_keys: Path) -> RSAPublicKey:
    return keys.private_key(digipost_keys / "sender-key.pem").public_key()


@given(
    status=st.integers(200, 599),
    date=st.text(max_size=40) | st.just(signing.http_date(datetime.now(UTC))),
    stated_hash=st.text(max_size=60) | st.none(),
    signature=st.text(max_size=400),
    body=st.binary(max_size=100),
)
def test_whatever_stands_in_an_answers_headers_there_is_a_doubt(
    some_key: RSAPublicKey, status: int, date: str, stated_hash: str | None, signature: str, body: bytes
) -> None:
    headers = {signing.DATE: date, signing.SIGNATURE: signature}
    if stated_hash is not None:
        headers[signing.CONTENT_SHA256] = stated_hash
    doubt = signing.doubt_about(status, "/tags", headers, body, some_key, datetime.now(UTC))
    assert doubt in {"ANSWER_DATE", "CLOCK_SKEW", "ANSWER_HASH", "ANSWER_SIGNATURE"}
