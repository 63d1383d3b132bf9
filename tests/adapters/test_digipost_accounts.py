"""Accounts that Digipost opens at a citizen's choice: adapter and sandbox over a real socket."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

import adapters.digipost
from adapters.adapter import Done, MailboxAdapter, Refused, TryLater
from adapters.digipost.xml_body import compose
from adapters.late_calls import LateCalls
from tests.adapters.digipost_sandbox import Digipost, digipost_running
from tests.adapters.faulty_link import faulty_link, lose_answer
from tests.adapters.sandbox import PERSON, WITHOUT_ACCOUNT, http, wish, wish_for_account

RELATION = "create_or_activate_user_account"
SOUND = {
    "national-identity-number": WITHOUT_ACCOUNT,
    "phone-number": "+4791234567",
    "email-address": "ola@example.com",
}


@pytest.fixture
def digipost(tmp_path: Path, digipost_keys: Path) -> Iterator[Digipost]:
    for file in digipost_keys.glob("*.pem"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with digipost_running(tmp_path) as running:
        running.begin_anew()
        yield running


def _accounts(digipost: Digipost) -> dict[str, tuple[str, bool]]:
    accounts = http.get(f"{digipost.url}/sandbox/accounts").json()
    return {each["identifier"]: (each["address"], each["receives_public_mail"]) for each in accounts}


def test_an_account_is_opened_once_and_its_address_told_each_time(digipost: Digipost) -> None:
    first, again = (digipost.adapter.deliver(wish_for_account()) for _ in range(2))
    address, receives = _accounts(digipost)[WITHOUT_ACCOUNT]
    assert first == again == Done(address)
    assert not receives
    assert digipost.switch(on=True, identifier=WITHOUT_ACCOUNT) == Done()
    assert _accounts(digipost)[WITHOUT_ACCOUNT] == (address, True)


def test_who_has_an_account_keeps_it(digipost: Digipost) -> None:
    assert digipost.adapter.deliver(wish_for_account(PERSON)) == Done("kari.nordmann#9YDT")


def test_an_account_whose_opening_was_not_answered_is_found_by_the_next_attempt(digipost: Digipost) -> None:
    with faulty_link() as link:
        link.operator_url = digipost.url
        adapter = digipost.adapter_for(link.url)
        assert isinstance(adapter.deliver(wish_for_account(PERSON)), Done)
        link.spoil(0, lose_answer)
        lost = adapter.deliver(wish_for_account())
        address, _ = _accounts(digipost)[WITHOUT_ACCOUNT]
        link.heal()
        assert isinstance(lost, TryLater)
        assert adapter.deliver(wish_for_account()) == Done(address)


def test_what_digipost_refuses_is_refused_for_the_citizen_to_see(digipost: Digipost) -> None:
    digipost.behave("refuse")
    assert digipost.adapter.deliver(wish_for_account()) == Refused("ACCOUNT_DEACTIVATED")
    assert WITHOUT_ACCOUNT not in _accounts(digipost)


@pytest.mark.parametrize("missing", SOUND)
@pytest.mark.parametrize("given", [None, ""])
def test_the_sandbox_opens_no_account_unless_all_three_are_there(
    digipost: Digipost, missing: str, given: str | None
) -> None:
    values = SOUND | {missing: given}
    body = compose(
        "user-information", *((name, value) for name, value in values.items() if value is not None)
    )
    assert digipost.post(RELATION, body).status_code == 400
    answered = digipost.post(RELATION, compose("user-information", *SOUND.items()))
    assert answered.status_code == 200
    schema = etree.XMLSchema(etree.parse(str(Path(adapters.digipost.__file__).with_name("api_v8.xsd"))))
    assert schema.validate(etree.fromstring(answered.content))


def test_the_sandbox_opens_no_account_for_another_signer(digipost: Digipost) -> None:
    body = compose("user-information", *SOUND.items())
    assert digipost.post(RELATION, body, {"X-Digipost-Signature": "c29tZWJvZHk="}).status_code == 403
    assert WITHOUT_ACCOUNT not in _accounts(digipost)


def test_opening_an_account_is_done_while_an_earlier_switch_may_come_late(digipost: Digipost) -> None:
    adapter: MailboxAdapter = LateCalls(digipost.adapter, 60.0)
    wanted = wish_for_account()
    wanted.earlier_lease_ran_out = True
    assert isinstance(adapter.deliver(wanted), Done)
    # But a switch is not.
    assert isinstance(adapter.deliver(wish(True, WITHOUT_ACCOUNT)), TryLater)
