"""Which gateways the settings choose, and that both together do what each of them cannot."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.adapter import Sent
from adapters.sandbox.link import CLIENT_ID, TOKEN_PATH
from adapters.sms import SmsSettings, chosen_gateway
from adapters.sms.fallback import BoundedGateway
from tests.adapters.fake_register import FakeRegister, eventually
from tests.adapters.link_sandbox import Link, message
from tests.adapters.message_centre import PASSWORD, SYSTEM_ID, message_centre, reject
from tests.adapters.sandbox import NOBODY_LISTENS


@pytest.fixture
def settings(link: Link, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """All settings of both gateways but where the message centre is."""
    (tmp_path / "password").write_text(PASSWORD)
    for name, value in {
        "KRR_SMS_URL": link.url,
        "KRR_SMS_TOKEN_URL": link.url + TOKEN_PATH,
        "KRR_SMS_CLIENT_ID": CLIENT_ID,
        "KRR_SMS_CLIENT_SECRET_FILE": str(link.secret_file),
        "KRR_SMS_RECEIPTS_LISTEN": "127.0.0.1:0",
        "KRR_SMS_RECEIPTS_URL": f"http://{NOBODY_LISTENS}",
        "KRR_SMS_DEADLINE_SECONDS": "8",
        "KRR_SMPP_HOST": "127.0.0.1",
        "KRR_SMPP_TLS": "false",
        "KRR_SMPP_SYSTEM_ID": SYSTEM_ID,
        "KRR_SMPP_PASSWORD_FILE": str(tmp_path / "password"),
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def chosen(
    settings: pytest.MonkeyPatch, gateways: str, register: FakeRegister, stack: ExitStack
) -> BoundedGateway:
    settings.setenv("KRR_SMS_GATEWAYS", gateways)
    return chosen_gateway(SmsSettings(), register.channel, 300, stack)


def sent_by(gateway: BoundedGateway) -> str:
    outcome = gateway.send(message())
    return outcome.gateway if isinstance(outcome, Sent) else ""


def test_the_first_gateway_has_all_messages_until_it_has_no_room(
    settings: pytest.MonkeyPatch, fake_register: FakeRegister, link: Link, stack: ExitStack
) -> None:
    centre = stack.enter_context(message_centre())
    settings.setenv("KRR_SMPP_PORT", str(centre.port))
    gateway = chosen(settings, "smpp,link", fake_register, stack)
    assert sent_by(gateway) == "SMPP"
    centre.answers = [reject(0x58)]
    assert sent_by(gateway) == "LINK_MYLINK"
    assert sent_by(gateway) == "SMPP"
    assert (len(centre.messages), len(link.messages())) == (2, 1)


def test_a_centre_that_is_away_is_stood_in_for_until_it_is_back(
    settings: pytest.MonkeyPatch, fake_register: FakeRegister, stack: ExitStack
) -> None:
    with message_centre() as centre:
        port = centre.port
    settings.setenv("KRR_SMPP_PORT", str(port))
    gateway = chosen(settings, "smpp,link", fake_register, stack)
    assert sent_by(gateway) == "LINK_MYLINK"
    with message_centre(port):
        eventually(lambda: sent_by(gateway) == "SMPP", 60)


def test_link_that_is_full_is_stood_in_for_by_the_centre(
    settings: pytest.MonkeyPatch, fake_register: FakeRegister, link: Link, stack: ExitStack
) -> None:
    centre = stack.enter_context(message_centre())
    settings.setenv("KRR_SMPP_PORT", str(centre.port))
    settings.setenv("KRR_SMS_URL", f"http://{NOBODY_LISTENS}")
    assert sent_by(chosen(settings, "link,smpp", fake_register, stack)) == "SMPP"
    assert link.messages() == []


def test_two_gateways_share_the_deadline(
    settings: pytest.MonkeyPatch, fake_register: FakeRegister, stack: ExitStack
) -> None:
    assert chosen(settings, "link", fake_register, stack).deadline_seconds == 8
    assert chosen(settings, "link,smpp", fake_register, stack).deadline_seconds == 8


def test_a_gateway_that_is_not_chosen_needs_no_settings(
    settings: pytest.MonkeyPatch, fake_register: FakeRegister, stack: ExitStack
) -> None:
    for name in ("KRR_SMS_CLIENT_ID", "KRR_SMS_RECEIPTS_URL"):
        settings.delenv(name)
    chosen(settings, "smpp", fake_register, stack)
    with pytest.raises(ValidationError, match="client_id"):
        chosen(settings, "link,smpp", fake_register, stack)
    with pytest.raises(ValidationError, match="gateways"):
        chosen(settings, "link,link", fake_register, stack)
