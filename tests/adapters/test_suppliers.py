"""What the adapters of operators and gateways share: outages, settings, and what is written down."""

import logging
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from krr.v1 import delivery_service_pb2 as pb
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from adapters.adapter import Refused, Sent, TryLater, Unsure
from adapters.digipost import DigipostSettings
from adapters.eboks import EBoksSettings
from adapters.sandbox.link import TOKEN_PATH
from adapters.sms import LinkSettings
from adapters.work import mailbox_work, message_work
from tests.adapters.digipost_sandbox import Digipost
from tests.adapters.eboks_sandbox import EBoks
from tests.adapters.link_sandbox import MOBILE, TOKEN, Link, gateway_for, message
from tests.adapters.sandbox import NOBODY_LISTENS, PERSON, WITHOUT_ACCOUNT, trickling

# Deadline of an attempt that will run out of it, and the most it may take on a busy machine.
DEADLINE, AT_MOST = 0.3, 5.0


def test_every_adapter_says_how_long_it_may_take(digipost: Digipost, eboks: EBoks, link: Link) -> None:
    with grpc.insecure_channel(NOBODY_LISTENS) as channel:
        for operator in (digipost, eboks):
            assert mailbox_work("x", operator.adapter, channel, 30).deadline_seconds == 5
        work = message_work("x", link.gateway, channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=True)
        assert work.deadline_seconds == 5


def test_a_gateway_that_is_not_there_is_tried_later(link: Link) -> None:
    gateway = gateway_for(f"http://{NOBODY_LISTENS}", link.secret_file)
    assert gateway.send(message()) == TryLater("TOKEN_UNREACHABLE")


def test_a_slow_gateway_is_given_up_within_the_deadline(link: Link) -> None:
    link.behave("slow", 10)
    assert _sent_in_time(link, link.url) == TryLater("TOKEN_TIMEOUT")


def test_headers_of_a_gateway_that_trickle_are_given_up_within_the_deadline(link: Link) -> None:
    with trickling() as trickle:
        assert _sent_in_time(link, trickle.url) == TryLater("TOKEN_TIMEOUT")


def test_an_answer_to_a_message_that_trickles_is_given_up_within_the_deadline(link: Link) -> None:
    with trickling() as trickle:
        trickle.sound[TOKEN_PATH] = b'{"access_token": "token", "expires_in": 300}'
        assert _sent_in_time(link, trickle.url) == Unsure("TIMEOUT")


def _sent_in_time(link: Link, url: str) -> Sent | TryLater | Refused:
    gateway = gateway_for(url, link.secret_file, deadline_seconds=DEADLINE)
    began = time.monotonic()
    outcome = gateway.send(message())
    assert time.monotonic() - began < AT_MOST
    return outcome


def test_nothing_personal_and_no_secret_reaches_logs_or_spans(
    digipost: Digipost,
    eboks: EBoks,
    link: Link,
    spans: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    for behaviour in ("normal", "refuse", "lose_answer", "down", "slow"):
        for sandbox in (digipost, eboks, link):
            sandbox.behave(behaviour, slow_seconds=0.1)
        for operator in (digipost, eboks):
            operator.switch(True, WITHOUT_ACCOUNT)
            operator.seed(receives=False)
            operator.switch(True)
        link.gateway.send(message())
    ended = spans.get_finished_spans()
    assert {span.name for span in ended} >= {
        *("digipost entry_point", "digipost get_tags", "digipost add_tag"),
        *("eboks read", "eboks write", "link send"),
    }
    assert {key for span in ended for key in span.attributes or ()} == {
        "http.request.method",
        "http.response.status_code",
    }
    output = capfd.readouterr()
    written = "".join([caplog.text, output.out, output.err, *(span.to_json() for span in ended)])
    secrets = (eboks.token, link.secret_file.read_text())
    for unwanted in (PERSON, WITHOUT_ACCOUNT, MOBILE, TOKEN, *secrets):
        assert unwanted not in written


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        (DigipostSettings, "url"),
        (EBoksSettings, "url"),
        (LinkSettings, "url"),
        (LinkSettings, "token_url"),
        (LinkSettings, "receipts_url"),
    ],
)
@pytest.mark.parametrize("url", ["http://api.example", "https://", "http://127.0.0.1.example", "api.example"])
def test_identity_numbers_and_secrets_leave_this_machine_under_tls_only(
    settings: Any, setting: str, url: str
) -> None:
    with pytest.raises(ValidationError, match=rf"{setting}\n.*must begin with https://"):
        settings(**{setting: url})


def test_an_address_is_kept_without_a_slash_at_its_end() -> None:
    settings = EBoksSettings(url="https://eboks.example/", token_file=Path("token"))
    assert settings.url == "https://eboks.example"
