import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from krr_cli.__main__ import app
from krr_cli.up import TEST_CITIZENS
from typer.main import get_command
from typer.testing import CliRunner, Result

from server.__main__ import Server
from tests.clients.command_line import Krr, krr_at
from tests.people import synthetic_identifiers

WITH_DIGIPOST, WITH_BOTH_POINTS, RESERVED = "22859197810", "11822648950", "04846697271"
REQUEST_ID = "5f0c2a4e-7b1d-4a38-9c55-0d6e8f1a2b3c"


@pytest.fixture
def krr(server: Server) -> Krr:
    """Runs the command line against a register that holds the test citizens."""

    run = krr_at(server.port)
    loaded = run("load", str(TEST_CITIZENS))
    assert "18 loaded, 0 were there already" in loaded.stdout
    return run


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_load_can_be_repeated(krr: Krr) -> None:
    assert "0 loaded, 18 were there already" in krr("load", str(TEST_CITIZENS)).stdout


def test_an_account_that_is_asked_for_is_shown_until_it_is_there(krr: Krr) -> None:
    asked = krr("choose-mailbox", WITH_BOTH_POINTS, "digipost", "--open-account")
    assert asked.stdout.startswith("account_requested; change number ")
    shown = answer(krr("get-person", WITH_BOTH_POINTS, "--json"))
    assert shown["account_request"]["state"] == "OPERATOR_STATE_PENDING"
    assert "account asked for at digipost: PENDING" in krr("get-person", WITH_BOTH_POINTS).stdout
    krr("reserve", WITH_BOTH_POINTS)
    assert "account asked for" not in krr("get-person", WITH_BOTH_POINTS).stdout


def test_a_look_up_tells_machines_and_people_the_same(krr: Krr) -> None:
    entry = answer(krr("look-up", WITH_DIGIPOST, "--json"))["entries"][0]
    table = krr("look-up", WITH_DIGIPOST).stdout

    assert entry["letter_route"] == "LETTER_ROUTE_MAILBOX"
    for shown in (WITH_DIGIPOST, entry["person"]["email"]["value"], "digipost", "MAILBOX_CHOSEN"):
        assert shown in table


def test_expired_contact_points_are_given_for_a_service_message_only(krr: Krr) -> None:
    for purpose, given in (("notice", False), ("service-message", True)):
        entry = answer(krr("look-up", "11887197158", "--purpose", purpose, "--json"))["entries"][0]
        assert ("email" in entry["person"]) is given


def test_changes_go_on_from_a_cursor_until_caught_up(krr: Krr) -> None:
    first = answer(krr("changes", "--limit", "5", "--json"))
    rest = answer(krr("changes", "--after", first["cursor"], "--json"))

    assert (len(first["persons"]), len(rest["persons"])) == (5, 13)
    assert (first["caught_up"], rest["caught_up"]) == (False, True)
    assert "caught up" in krr("changes").stdout


def test_a_citizen_changes_the_own_entry(krr: Krr) -> None:
    citizen = WITH_BOTH_POINTS
    for command in (
        ["update-contact", citizen, "--mobile", "", "--email", "new@example.com"],
        ["confirm-contact", citizen],
        ["set-language", citizen, "nn"],
        ["reserve", citizen],
        ["cancel-reservation", citizen],
    ):
        assert answer(krr(*command, "--json"))["result"] == "WRITE_RESULT_CHANGED"
    person = answer(krr("get-person", citizen, "--json"))["person"]

    assert (person["email"]["value"], "mobile" in person) == ("new@example.com", False)
    assert (person["language"], person["reservation"]) == ("LANGUAGE_NN", "RESERVATION_NOT_RESERVED")


def test_a_person_leaves_the_register_and_enters_it_again(krr: Krr) -> None:
    assert krr("delete-person", WITH_DIGIPOST).exit_code == 0
    assert answer(krr("get-person", WITH_DIGIPOST, "--json"))["person"]["status"] == "PERSON_STATUS_DELETED"
    assert krr("register", WITH_DIGIPOST, "--mobile", "99999950", "--language", "en").exit_code == 0
    assert answer(krr("get-person", WITH_DIGIPOST, "--json"))["mailboxes"] == []


def test_the_same_request_id_does_nothing_twice(krr: Krr) -> None:
    reserve = ["reserve", WITH_BOTH_POINTS, "--request-id", REQUEST_ID, "--json"]
    first, second = answer(krr(*reserve)), answer(krr(*reserve))

    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert first["change_number"] == second["change_number"]


def test_a_refusal_is_one_line_with_its_reason_and_exit_code_1(krr: Krr) -> None:
    refused = krr("choose-mailbox", WITH_BOTH_POINTS, "digipost")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("NO_MAILBOX")

    refused = krr("update-contact", WITH_BOTH_POINTS, "--email", "nonsense")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("INVALID_EMAIL")
    assert "email" in refused.stderr.splitlines()[1]
    assert "nonsense" not in refused.stderr


def test_an_operator_reports_and_the_staff_sees_what_follows(krr: Krr) -> None:
    person = ("eboks", WITH_BOTH_POINTS)
    assert krr("operator", "may-choose", *person).stdout == "MAY_CHOOSE\n"
    created = answer(krr("operator", "create", *person, "--address", "per.nordmann#9YDT", "--json"))
    chosen = answer(krr("operator", "choose", *person, "--json"))
    assert created["change_number"] < chosen["change_number"]

    deliveries = answer(krr("deliveries", "list", "--adapter", "eboks", "--json"))["deliveries"]
    messages = answer(krr("messages", "list", "--state", "queued", "--json"))["messages"]
    assert [d["change_number"] for d in deliveries] == [chosen["change_number"]]
    assert [m["change_number"] for m in messages] == [chosen["change_number"]]
    assert "1 due at once" in krr("deliveries", "retry", deliveries[0]["delivery_id"]).stdout
    assert "1 due at once" in krr("messages", "retry", messages[0]["message_id"]).stdout
    assert messages[0]["message_id"] in krr("messages", "list").stdout
    assert "eboks" in krr("deliveries", "list").stdout

    assert krr("operator", "delete", *person).exit_code == 0
    assert answer(krr("get-person", WITH_BOTH_POINTS, "--json"))["mailboxes"] == []


def test_a_citizen_sees_what_changed_and_who_did_it(krr: Krr) -> None:
    for command in (
        ["update-contact", WITH_BOTH_POINTS, "--email", "new@example.com"],
        ["operator", "create", "eboks", WITH_BOTH_POINTS, "--address", "per.nordmann#9YDT"],
        ["set-language", WITH_BOTH_POINTS, "se"],
    ):
        assert krr(*command).exit_code == 0
    entries = answer(krr("history", WITH_BOTH_POINTS, "--json"))["entries"]
    latest = answer(krr("history", WITH_BOTH_POINTS, "--limit", "1", "--json"))["entries"]
    table = krr("history", WITH_BOTH_POINTS).stdout

    assert [(entry["changed_by"], entry["fields"]) for entry in entries[:3]] == [
        ("CHANGED_BY_CITIZEN", ["language"]),
        ("CHANGED_BY_OPERATOR", ["mailboxes"]),
        ("CHANGED_BY_CITIZEN", ["email"]),
    ]
    assert latest == entries[:1]
    assert "OPERATOR" in table
    assert "new@example.com" not in table


def test_the_staff_moves_a_person_to_another_identifier(krr: Krr) -> None:
    new = next(synthetic_identifiers())
    replace = ["replace-identifier", WITH_DIGIPOST, new, "--request-id", REQUEST_ID, "--json"]
    first, second = answer(krr(*replace)), answer(krr(*replace))
    moved, left = answer(krr("look-up", new, WITH_DIGIPOST, "--json"))["entries"]

    assert (first["duplicate"], second["duplicate"]) == (False, True)
    assert moved["person"]["change_number"] == first["change_number"]
    assert moved["person"]["mailbox"]["address"]
    assert left["person"]["deletion_reason"] == "DELETION_REASON_NEW_IDENTITY"
    assert "reason NEW_IDENTITY" in krr("look-up", WITH_DIGIPOST).stdout


@pytest.mark.parametrize(("reason", "status"), [("dead", "DELETED"), ("disappeared", "ACTIVE")])
def test_the_staff_erases_a_person_whose_reservation_ends_with_the_identity_only(
    krr: Krr, reason: str, status: str
) -> None:
    assert answer(krr("erase", RESERVED, "--reason", reason, "--json"))["result"] == "WRITE_RESULT_CHANGED"
    person = answer(krr("get-person", RESERVED, "--json"))["person"]

    assert person["status"] == f"PERSON_STATUS_{status}"
    assert "email" not in person


def test_an_operator_gives_its_mailbox_another_address(krr: Krr) -> None:
    update = ["operator", "update", "digipost", WITH_DIGIPOST, "--address", "per.nordmann#9YDT"]
    first, again = krr(*update, "--request-id", REQUEST_ID), krr(*update, "--request-id", REQUEST_ID)
    [entry] = answer(krr("look-up", WITH_DIGIPOST, "--json"))["entries"]

    assert first.stdout.startswith("OK; change number")
    assert again.stdout.startswith(first.stdout.strip())
    assert entry["person"]["mailbox"]["address"] == "per.nordmann#9YDT"


def test_what_the_register_decides_against_an_operator_is_exit_code_1(krr: Krr) -> None:
    refused = krr("operator", "create-and-choose", "digipost", RESERVED, "--address", "per.nordmann#9YDT")

    assert (refused.exit_code, refused.stdout) == (1, "RESERVED\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["look-up"],
        ["look-up", WITH_DIGIPOST, "--purpose", "curiosity"],
        ["update-contact", WITH_DIGIPOST],
        ["choose-mailbox", WITH_DIGIPOST, "postgirot"],
        ["get-person", "ærlig"],
        ["deliveries", "retry"],
        ["load", "/nonexistent"],
        ["erase", WITH_DIGIPOST],
        ["erase", WITH_DIGIPOST, "--reason", "boredom"],
        ["mailboxes", "postgirot"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_file_that_holds_something_else_is_named_by_its_line_and_not_by_its_values(
    krr: Krr, tmp_path: Path
) -> None:
    file = tmp_path / "persons.jsonl"
    file.write_text('{"identifier": "22859197810"}\n{"identifier": 22859197810, "secret": 1}\n')
    refused = krr("load", str(file))

    assert refused.exit_code == 2
    assert "line 2" in refused.stderr
    assert "22859197810" not in refused.stderr


@pytest.fixture
def nobody_listens() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    yield address


def test_a_register_that_is_away_is_exit_code_3(nobody_listens: str) -> None:
    away = CliRunner().invoke(app, ["look-up", WITH_DIGIPOST, "--register", nobody_listens])

    assert away.exit_code == 3
    assert "UNAVAILABLE" in away.stderr


def test_a_sandbox_that_is_away_is_exit_code_3(nobody_listens: str) -> None:
    away = CliRunner().invoke(
        app, ["sandbox", "accounts", "eboks"], env={"KRR_SANDBOX_EBOKS": nobody_listens}
    )

    assert away.exit_code == 3


def test_every_command_explains_itself_and_speaks_json() -> None:
    def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, (*path, name))
            else:
                yield (*path, name), command

    found = dict(commands(get_command(app)))
    without_json = [
        path for path, command in found.items() if not any("--json" in param.opts for param in command.params)
    ]
    assert len(found) > 20
    # Those that write persons have layouts of their own.
    writers = [("export",), ("population",)]
    assert without_json == [("up",), *writers, ("epoch", "show"), ("epoch", "keep"), ("epoch", "new")]
    assert all(command.help for command in found.values())
