"""Operators that the configuration adds."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError

from server.__main__ import Server
from server.config import MailboxOperator, Settings
from server.epoch import transaction
from server.store.mailbox_operators import AdapterTaken, enter_mailbox_operators
from tests.people import DIGIPOST, EBOKS
from tests.server.process import run

THIRD = "313131319"


def configured(settings: Settings, *operators: MailboxOperator) -> Settings:
    return settings.model_copy(update={"mailbox_operators": operators})


def operators(database: "psycopg.Connection[Any]") -> list[Any]:
    return database.execute("SELECT * FROM mailbox_operator ORDER BY organisation_number").fetchall()


def test_a_configured_operator_is_entered_once_and_stays(
    settings: Settings, database: "psycopg.Connection[Any]"
) -> None:
    third = MailboxOperator(organisation_number=THIRD, name="Third", adapter="third")
    ours = [(EBOKS, "e-Boks", "eboks", False), (DIGIPOST, "Digipost", "digipost", True)]
    for operator_list, name in (([third], "Third"), ([third], "Third"), ([], "Third")):
        Server(configured(settings, *operator_list)).end()
        assert operators(database) == [(THIRD, name, "third", False), *ours]
    renamed = third.model_copy(update={"name": "Tredje", "adapter": "tredje"})
    for each, opens in ((renamed, False), (renamed.model_copy(update={"opens_accounts": True}), True)):
        Server(configured(settings, each)).end()
        assert operators(database) == [(THIRD, "Tredje", "tredje", opens), *ours]


def test_two_operators_cannot_have_one_adapter(
    settings: Settings, database: "psycopg.Connection[Any]"
) -> None:
    before = operators(database)
    with pytest.raises(AdapterTaken, match="KRR_MAILBOX_OPERATORS: the adapter eboks is another operator's"):
        Server(
            configured(settings, MailboxOperator(organisation_number=THIRD, name="Third", adapter="eboks"))
        )
    assert operators(database) == before


def test_servers_that_start_together_enter_it_once(
    settings: Settings, database: "psycopg.Connection[Any]"
) -> None:
    third = MailboxOperator(organisation_number=THIRD, name="Third", adapter="third")
    together = threading.Barrier(6)

    def enter() -> None:
        with transaction(settings) as connection:
            together.wait(30)
            enter_mailbox_operators(connection, [third])

    with ThreadPoolExecutor(6) as pool:
        for _ in range(25):
            for entered in [pool.submit(enter) for _ in range(6)]:
                entered.result(30)
            assert (THIRD, "Third", "third", False) in operators(database)
            database.execute("DELETE FROM mailbox_operator WHERE organisation_number = %s", [THIRD])


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("organisation_number", "313131311"),
        ("name", ""),
        ("adapter", "Third Adapter"),
        ("certificate", "unknown field"),
    ],
)
def test_an_operator_that_cannot_be_is_no_setting(field: str, wrong: str) -> None:
    sound = {"organisation_number": THIRD, "name": "Third", "adapter": "third"}
    with pytest.raises(ValidationError, match=field):
        MailboxOperator.model_validate({**sound, field: wrong})


def test_the_server_names_a_setting_that_is_wrong(database_url: str, tmp_path: Path) -> None:
    wrong = [{"organisation_number": "123", "name": "Third", "adapter": "third"}]
    ended = run(tmp_path, database_url=database_url, mailbox_operators=json.dumps(wrong))
    assert ended.returncode == 1
    assert "KRR_MAILBOX_OPERATORS_0_ORGANISATION_NUMBER" in ended.stderr
    assert "123" not in ended.stderr
