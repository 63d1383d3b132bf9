"""`krr changes` and `krr mailboxes`, followed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from krr_cli.up import TEST_CITIZENS

from server.__main__ import Server
from tests.clients.command_line import Command, Krr, command, krr_at
from tests.clients.scripted_register import ScriptedRegister
from tests.e2e.parts import free_port
from tests.people import OLA, synthetic_identifiers
from tests.server.process import ServerProcess, serving

FOLLOW = ("changes", "--follow", "--json")


@pytest.fixture
def krr(server: Server) -> Krr:
    """The command line, against a register that holds the test citizens."""
    run = krr_at(server.port)
    assert run("load", str(TEST_CITIZENS)).exit_code == 0
    return run


def pages_of(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def numbers_of(pages: list[Any], items: str = "persons") -> list[int]:
    return [int(item["change_number"]) for page in pages for item in page[items]]


def load(krr: Krr, folder: Path, identifiers: list[str]) -> None:
    """Load persons in one go, so that the feed shows them on one page."""
    file = folder / "more.jsonl"
    person = '{{"identifier": "{}", "status": "PERSON_STATUS_ACTIVE", "reservation": "{}", "age_days": 1}}\n'
    file.write_text("".join(person.format(each, "RESERVATION_NOT_RESERVED") for each in identifiers))
    assert f"{len(identifiers)} loaded" in krr("load", str(file)).stdout


def following(command: Command, persons: int) -> list[Any]:
    """The command's pages until so many persons came."""
    pages: list[Any] = []
    while len(numbers_of(pages)) < persons:
        pages.append(command.page())
    return pages


def test_a_follow_prints_changes_as_they_come_and_ctrl_c_tells_where_to_go_on(
    krr: Krr, server: Server
) -> None:
    with command(server.port, *FOLLOW) as follow:
        first = following(follow, 18)
        assert krr("reserve", OLA).exit_code == 0
        [second] = following(follow, 1)
        follow.interrupt()
        code, said = follow.end()
    assert krr("cancel-reservation", OLA).exit_code == 0
    told = said.splitlines()[-1].removeprefix("to go on: --after ")
    went_on = krr("changes", "--after", told, "--json")

    assert code == 130
    # Interrupted just after it printed a page, it may tell the cursor before: that misses nothing.
    assert told in (first[-1]["cursor"], second["cursor"])
    assert said.count("caught up") == 1
    assert (first[0]["restarted"], second["restarted"]) == (True, False)
    assert numbers_of([*first, second]) == list(range(1, 20))
    assert numbers_of(pages_of(went_on.stdout)) == [20]


def test_a_follow_that_waits_ends_when_nobody_reads_it_any_more(krr: Krr, server: Server) -> None:
    with command(server.port, *FOLLOW) as follow:
        following(follow, 18)
        follow.stop_reading()
        code, said = follow.end()

    assert code == 141
    assert said.splitlines() == ["following; Ctrl-C ends it", "caught up"]


def test_a_follow_as_a_table_ends_as_quietly(krr: Krr, server: Server) -> None:
    with command(server.port, "changes", "--follow") as follow:
        assert follow.process.stdout
        assert "identifier" in follow.process.stdout.readline() + follow.process.stdout.readline()
        follow.stop_reading()
        code, said = follow.end()

    assert code == 141
    assert "Error" not in said
    assert "Traceback" not in said


def test_a_follow_with_a_limit_ends_after_so_many_and_its_cursor_leaves_none_out(
    krr: Krr, server: Server, tmp_path: Path
) -> None:
    people = synthetic_identifiers()
    with command(server.port, *FOLLOW, "--limit", "20") as follow:
        first = following(follow, 18)
        load(krr, tmp_path, [next(people) for _ in range(5)])
        [second] = following(follow, 2)
        code, _ = follow.end()
    rest = krr("changes", "--follow", "--after", second["cursor"], "--limit", "3", "--json")

    assert code == 0
    assert numbers_of([*first, second]) == list(range(1, 21))
    assert rest.exit_code == 0
    assert numbers_of(pages_of(rest.stdout)) == [21, 22, 23]


def test_a_followed_table_shows_its_rows_and_the_cursor_of_each_page(krr: Krr) -> None:
    cursor = pages_of(krr("changes", "--limit", "5", "--json").stdout)[0]["cursor"]
    table = krr("changes", "--follow", "--limit", "5").stdout

    assert "citizen01@example.com" in table
    assert f"cursor {cursor}" in table.splitlines()


@pytest.fixture
def process(database_url: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that can be killed, on a port of its own."""
    with serving(tmp_path, database_url, **_settings(free_port())) as running:
        yield running


def _settings(port: int) -> dict[str, str]:
    return {"listen": f"127.0.0.1:{port}", "test_accept_unsafe_postgresql": "true"}


def test_a_follow_lives_through_a_server_that_is_killed(
    process: ServerProcess, database_url: str, tmp_path: Path
) -> None:
    port = int(process.address.rpartition(":")[2])
    krr = krr_at(port)
    assert krr("load", str(TEST_CITIZENS)).exit_code == 0
    with command(port, *FOLLOW) as follow:
        pages = following(follow, 18)
        process.process.kill()
        process.process.wait()
        with serving(tmp_path / "again", database_url, **_settings(port)):
            assert krr("reserve", OLA).exit_code == 0
            pages += following(follow, 1)
        follow.interrupt()
        code, said = follow.end()

    assert code == 130
    assert numbers_of(pages) == list(range(1, 20))
    assert "UNAVAILABLE" not in said


def test_a_follow_says_that_the_register_was_restored_and_begins_anew(scripted: ScriptedRegister) -> None:
    with command(scripted.port, *FOLLOW) as follow:
        count = sum(len(page) for page in scripted.pages)
        before = following(follow, count)
        scripted.restore(scripted.pages[:1])
        after = following(follow, len(scripted.pages[0]))
        follow.interrupt()
        _, said = follow.end()

    assert [page["restarted"] for page in before if page["persons"]][1:] == [False] * (len(before) - 1)
    assert after[0]["restarted"] is True
    assert said.count("the register was restored") == 1


def test_a_cursor_that_the_register_never_gave_ends_a_follow_with_its_refusal(krr: Krr) -> None:
    refused = krr("changes", "--follow", "--after", "nonsense")

    assert refused.exit_code == 1
    assert "INVALID_TOKEN" in refused.stderr


def test_an_operator_follows_its_own_mailboxes(krr: Krr, server: Server) -> None:
    with command(server.port, "mailboxes", "digipost", "--follow", "--json") as follow:
        before: list[Any] = []
        while not (before and before[-1]["caught_up"]):
            before.append(follow.page())
        opened = krr("operator", "create", "digipost", OLA, "--address", "ola.nordmann#9YDT")
        created = follow.page()
        closed = krr("operator", "delete", "digipost", OLA)
        deleted = follow.page()

    assert (opened.exit_code, closed.exit_code) == (0, 0)
    assert {held["identifier"] for page in before for held in page["mailboxes"]} == {
        "22859197810",
        "26866595592",
    }
    assert [held["address"] for page in (created, deleted) for held in page["mailboxes"]] == [
        "ola.nordmann#9YDT",
        "",
    ]
    table = krr("mailboxes", "digipost", "--after", created["cursor"]).stdout
    assert "gone" in table
    assert OLA in table
    assert "22859197810" not in table
