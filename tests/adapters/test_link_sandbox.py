"""The LINK sandbox is as strict as LINK, and as forgetful."""

import json
import stat
import uuid
from pathlib import Path

import pytest

from adapters.adapter import Sent
from adapters.sandbox.control import running
from adapters.sandbox.link import make_app
from tests.adapters.link_sandbox import MOBILE, Link, message
from tests.adapters.sandbox import http


def good(**other: object) -> dict[str, object]:
    options = {"sms.sender": "Digdir", "sms.encoding": "AutoDetect"}
    return {"recipient": MOBILE, "content": {"text": "Hei", "options": options}, **other}


@pytest.mark.parametrize(
    "batch",
    [
        [],
        {},
        [good(recipient="99999999")],
        [good(content={"text": "", "options": {"sms.sender": "Digdir"}})],
        [good(content={"text": "Hei", "options": {"sms.sender": "Digitaliseringsdirektoratet"}})],
        [good(more=1)],
        [good(expiration={"relative": 172800001})],
        [good(referenceId="x" * 501)],
        [good()] * 1001,
    ],
)
def test_a_request_that_breaks_links_schema_is_refused(link: Link, batch: object) -> None:
    answer = link.post(batch)
    assert answer.status_code == 400
    uuid.UUID(answer.json()["requestId"])
    assert link.messages() == []


def test_every_accepted_message_is_a_message_sent(link: Link) -> None:
    answer = link.post([good(referenceId="same"), good(referenceId="same")])
    assert answer.status_code == 202
    assert len({kept["messageId"] for kept in answer.json()["messages"]}) == 2
    assert len(link.messages()) == 2


def test_without_a_token_that_holds_nothing_is_sent(link: Link) -> None:
    answer = http.post(f"{link.url}/sms/v1/messages", content=json.dumps([good()]))
    assert answer.status_code == 401
    assert link.token("wrong").status_code == 401
    assert link.messages() == []


def test_messages_and_secret_outlive_the_sandbox(tmp_path: Path) -> None:
    kept = []
    for _ in range(2):
        with running(make_app(tmp_path, "127.0.0.1:1")) as url:
            sandbox = Link(url, tmp_path)
            assert isinstance(sandbox.gateway.send(message()), Sent)
            kept.append(sandbox.messages())
    assert kept[1][:1] == kept[0]
    assert len(kept[1]) == 2
    assert stat.S_IMODE((tmp_path / "client-secret").stat().st_mode) == 0o600
