"""`krr campaign`: planned, previewed, started, reported, and what it says to mistakes."""

import csv
import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from krr_cli.up import TEST_CITIZENS

from server.__main__ import Server
from server.domain.rules import date_in_norway
from tests.clients.command_line import Krr, krr_at

DEADLINE = (date_in_norway(datetime.now(UTC)) + timedelta(days=30)).isoformat()
SHARED = "office@example.no"


@pytest.fixture
def krr(server: Server) -> Krr:
    """The command line, against a register in which six citizens share an e-mail address."""
    run = krr_at(server.port)
    assert run("load", str(TEST_CITIZENS)).exit_code == 0
    citizens = [json.loads(line)["identifier"] for line in TEST_CITIZENS.read_text().splitlines()]
    changed = 0
    for identifier in citizens:
        if changed < 6:
            changed += run("update-contact", identifier, "--email", SHARED).exit_code == 0
    return run


def test_a_campaign_is_planned_previewed_started_and_reported(
    krr: Krr, server: Server, tmp_path: Path
) -> None:
    planned = krr("campaign", "plan", "--deadline", DEADLINE)
    assert (planned.exit_code, planned.stderr) == (0, "")
    assert "krr campaign preview 1" in planned.stdout

    previewed = json.loads(krr("campaign", "preview", "1", "--json").stdout)
    assert (previewed["letter_count"], previewed["deletion_count"]) == ("6", "6")
    assert krr("campaign", "start", "1").exit_code == 0
    assert json.loads(krr("campaign", "pause", "1", "--json").stdout) == {}
    assert krr("campaign", "exempt", "1", "--case", "1", "--reason", "a family").stdout == "6 exempt\n"

    file, plot = tmp_path / "cases.csv", tmp_path / "days.svg"
    assert krr("campaign", "report", "1", "--csv", str(file)).exit_code == 0
    # In a process of its own: see the command.
    command = ["campaign", "report", "1", "--plot", str(plot), "--register", f"127.0.0.1:{server.port}"]
    subprocess.run([sys.executable, "-m", "krr_cli", *command], check=True)
    [row] = csv.DictReader(file.read_text().splitlines())
    assert (row["kind"], row["persons"], row["exempt"], row["open"]) == ("email", "6", "6", "0")
    assert ET.parse(plot).getroot().tag.endswith("svg")
    assert not re.search(r"""(src|href)=["']http""", plot.read_text())
    shown = krr("campaign", "list").stdout + krr("campaign", "report", "1").stdout
    shown += krr("campaign", "events", "1").stdout + krr("campaign", "show", "1").stdout
    assert "PAUSED" in shown and "EXEMPTED" in shown
    assert SHARED not in shown
    assert krr("campaign", "end", "1").exit_code == 0
    assert json.loads(krr("campaign", "show", "1", "--json").stdout)["state"] == "CAMPAIGN_STATE_ENDED"


def test_what_was_written_shows_up_by_itself(krr: Krr) -> None:
    krr("campaign", "plan", "--deadline", DEADLINE)
    krr("campaign", "preview", "1")
    krr("campaign", "start", "1")
    ends = time.monotonic() + 60
    while json.loads(krr("campaign", "show", "1", "--json").stdout).get("letter_count") != "6":
        assert time.monotonic() < ends
        time.sleep(0.5)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["start", "1"], 1, "CAMPAIGN_STATE"),
        (["plan", "--deadline", "2027-02-30"], 1, "deadline_date"),
        (["plan", "--deadline", "2020-01-01"], 1, "at least 14 days ahead"),
        (["show", "77"], 1, "UNKNOWN_CAMPAIGN"),
        (["show", str(2**63)], 2, "CAMPAIGN"),
        (["report", "1", "--csv", "no/such/folder.csv"], 1, "cannot write"),
        (["exempt", "1", "--reason", "x"], 2, "either --case or --person"),
        (["exempt", "1", "--case", "1", "--reason", "91234567"], 1, "no six digits"),
    ],
)
def test_a_mistake_is_told_in_words(krr: Krr, arguments: list[str], exit_code: int, said: str) -> None:
    krr("campaign", "plan", "--deadline", DEADLINE)
    refused = krr("campaign", *arguments)
    assert refused.exit_code == exit_code
    assert said in refused.stderr


def test_a_line_of_organisations_that_is_none_is_told_by_its_number(krr: Krr, tmp_path: Path) -> None:
    file = tmp_path / "organisations.csv"
    file.write_text("firm.example,post@firm.example\n\nfirm.example\n")
    refused = krr("campaign", "plan", "--deadline", DEADLINE, "--organisations", str(file))
    assert refused.exit_code == 2
    assert "line 3" in refused.stderr
