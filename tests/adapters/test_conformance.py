"""What every supplier's adapter must bear, against the suppliers' sandboxes over real sockets."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from krr.v1 import delivery_service_pb2 as pb
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from adapters.adapter import Done, Refused, Sent, TryLater
from adapters.digipost import DigipostSettings
from adapters.eboks import EBoksSettings
from adapters.sandbox.link import TOKEN_PATH
from adapters.sms import SmsSettings
from adapters.work import mailbox_work, message_work
from tests.adapters.digipost_sandbox import Digipost
from tests.adapters.eboks_sandbox import EBoks
from tests.adapters.link_sandbox import MOBILE, TOKEN, Link, gateway_for, message
from tests.adapters.sandbox import NOBODY_LISTENS, PERSON, WITHOUT_ACCOUNT, trickling, wish

Operator = Digipost | EBoks
Attempt = Callable[[], Done | Sent | TryLater | Refused]


@pytest.fixture(params=["digipost", "eboks"])
def operator(request: pytest.FixtureRequest) -> Operator:
    chosen: Operator = request.getfixturevalue(request.param)
    return chosen


# --- mailbox operators


def test_delivering_twice_leaves_public_mail_as_wished(operator: Operator) -> None:
    for wanted in (True, True, False, False):
        assert operator.switch(wanted) == Done()
        assert operator.receives_public_mail() == wanted


def test_switching_on_without_an_account_is_refused_for_the_citizen_to_see(operator: Operator) -> None:
    assert operator.switch(True, WITHOUT_ACCOUNT) == Refused("NO_ACCOUNT")


def test_switching_off_without_an_account_is_done_already(operator: Operator) -> None:
    assert operator.switch(False, WITHOUT_ACCOUNT) == Done()


def test_an_operator_that_is_down_is_tried_later(operator: Operator) -> None:
    operator.behave("down")
    assert operator.switch(True) == TryLater("ANSWER_LOST")
    operator.behave("normal")
    assert operator.switch(True) == Done()


def test_the_operators_refusal_is_final(operator: Operator) -> None:
    operator.behave("refuse")
    assert isinstance(operator.switch(True), Refused)


def test_a_lost_answer_is_made_good_by_the_next_attempt(operator: Operator) -> None:
    operator.behave("lose_answer")
    assert operator.switch(True) == TryLater("ANSWER_LOST")
    assert operator.receives_public_mail()
    operator.behave("normal")
    assert operator.switch(True) == Done()
    assert operator.receives_public_mail()


# --- all suppliers


@pytest.fixture(params=["digipost", "eboks", "link"])
def attempt_at(request: pytest.FixtureRequest) -> Callable[[str, float], Attempt]:
    """Makes an attempt at a supplier, by its address and the attempt's deadline in seconds."""
    supplier = request.getfixturevalue(request.param)
    return partial(_attempt_at, supplier)


def _attempt_at(supplier: Operator | Link, url: str, deadline_seconds: float) -> Attempt:
    if isinstance(supplier, Link):
        gateway = gateway_for(url, supplier.secret_file, deadline_seconds=deadline_seconds)
        return lambda: gateway.send(message())
    adapter = supplier.adapter_for(url, deadline_seconds)
    return lambda: adapter.deliver(wish(True))


def test_every_adapter_says_how_long_it_may_take(digipost: Digipost, eboks: EBoks, link: Link) -> None:
    with grpc.insecure_channel(NOBODY_LISTENS) as channel:
        for operator in (digipost, eboks):
            assert mailbox_work("x", operator.adapter, channel, 30).deadline_seconds == 5
        work = message_work("x", link.gateway, channel, 30, channel=pb.CHANNEL_SMS, gateway_is_sandbox=True)
        assert work.deadline_seconds == 5


def test_nobody_listening_is_tried_later(attempt_at: Callable[[str, float], Attempt]) -> None:
    assert _code(attempt_at(f"http://{NOBODY_LISTENS}", 5)()) == "UNREACHABLE"


@pytest.mark.parametrize("supplier", ["digipost", "eboks", "link"])
def test_a_slow_supplier_is_given_up_within_the_deadline(
    supplier: str, request: pytest.FixtureRequest
) -> None:
    sandbox = request.getfixturevalue(supplier)
    sandbox.behave("slow", 1.5)
    attempt = _attempt_at(sandbox, sandbox.url, 0.3)
    began = time.monotonic()
    assert _code(attempt()) == "TIMEOUT"
    assert time.monotonic() - began < 1.2


def test_headers_that_trickle_are_given_up_within_the_deadline(
    attempt_at: Callable[[str, float], Attempt],
) -> None:
    with trickling() as trickle:
        attempt = attempt_at(trickle.url, 0.3)
        began = time.monotonic()
        assert _code(attempt()) == "TIMEOUT"
        assert time.monotonic() - began < 1.2


def test_an_answer_to_a_message_that_trickles_is_given_up_within_the_deadline(link: Link) -> None:
    with trickling() as trickle:
        trickle.sound[TOKEN_PATH] = b'{"access_token": "token", "expires_in": 300}'
        attempt = _attempt_at(link, trickle.url, 0.3)
        began = time.monotonic()
        assert attempt() == TryLater("TIMEOUT")
        assert time.monotonic() - began < 1.2


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
        (SmsSettings, "url"),
        (SmsSettings, "token_url"),
        (SmsSettings, "receipts_url"),
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


def _code(outcome: Done | Sent | TryLater | Refused) -> str:
    assert isinstance(outcome, TryLater)
    return outcome.error_code.removeprefix("TOKEN_")
