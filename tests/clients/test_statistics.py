"""`krr stats`: the numbers under names that people read, and the contract's for machines."""

import json
import re

import pytest
from krr_cli.up import TEST_CITIZENS

from server.__main__ import Server
from tests.clients.command_line import Krr, krr_at


@pytest.fixture
def krr(server: Server) -> Krr:
    """The command line, against a register that holds the test citizens."""
    run = krr_at(server.port)
    assert run("load", str(TEST_CITIZENS)).exit_code == 0
    return run


def test_each_number_stands_under_its_name(krr: Krr) -> None:
    shown = krr("stats")
    counted = json.loads(krr("stats", "--json").stdout)

    assert (shown.exit_code, shown.stderr) == (0, "")
    rows = [re.split(r" {2,}", line.strip()) for line in shown.stdout.splitlines()]
    numbers = {label: cells for label, *cells in rows}
    assert numbers["active"] == [counted["active_count"], "100.0%"]
    assert numbers["deleted"][0] == counted["deleted_count"] != "0"
    assert numbers["reserved, with neither"][0] == counted["reserved_without_contact_count"]
    assert numbers["notifiable"][0] == counted["notifiable_count"]
    assert numbers["not chosen"][0] == counted["languages"][-1]["active_count"]
    [_, digipost] = counted["operators"]
    assert numbers["Digipost"] == [
        digipost["operator_organisation_number"],
        digipost["active_mailbox_count"],
        digipost["inactive_mailbox_count"],
    ]
    assert len(counted["languages"]) == 5


def test_an_empty_register_has_no_shares(server: Server) -> None:
    shown = krr_at(server.port)("stats")

    assert shown.exit_code == 0
    assert "%" not in shown.stdout
    assert json.loads(krr_at(server.port)("stats", "--json").stdout)["active_count"] == "0"


def test_a_register_that_is_away_is_exit_code_3() -> None:
    away = krr_at(1)("stats")

    assert (away.exit_code, away.stdout) == (3, "")
