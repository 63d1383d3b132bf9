"""`krr look-up` of any number of persons: CSV, JSON lines, files."""

import csv
import io
import json
import re
import stat
from itertools import islice
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from krr_cli.identifiers_to_look_up import NotText, identifiers_in
from krr_cli.look_up_entry import CSV_COLUMNS
from krr_cli.up import TEST_CITIZENS
from typer.testing import Result

from server.__main__ import Server
from tests.clients.command_line import Krr, command, krr_at
from tests.clients.scripted_register import Act, ScriptedRegister, after, refuses
from tests.people import DIGIPOST, EBOKS, OLA, synthetic_identifiers
from tests.server.watching import wait_until

WITH_DIGIPOST, WITH_EXPIRED_POINTS, DELETED = "22859197810", "11887197158", "17894199350"


@pytest.fixture
def krr(server: Server) -> Krr:
    """The command line, against a register that holds the test citizens."""
    run = krr_at(server.port)
    assert run("load", str(TEST_CITIZENS)).exit_code == 0
    return run


def rows_of(text: str) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found = list(rows)
    assert tuple(rows.fieldnames or ()) == CSV_COLUMNS
    return found


def summary(result: Result) -> str:
    return result.stderr.splitlines()[-1]


def test_thousands_from_a_file_come_in_its_order_and_malformed_ones_spoil_no_other(
    krr: Krr, tmp_path: Path
) -> None:
    wanted = [OLA, *islice(synthetic_identifiers(), 2498), OLA]
    for place in range(7, 2500, 250):
        wanted[place] = f"malformed-{place}"
    wanted[2000] = "1" * 5_000_000
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(wanted))
    result = krr("look-up", "--file", str(file))
    rows = rows_of(result.stdout)

    assert [row["identifier"] for row in rows] == [each[:64] for each in wanted]
    assert {row["refusal"] for row in rows if row["identifier"] in wanted[7::250]} == {"INVALID_IDENTIFIER"}
    assert rows[0] == rows[-1]
    assert rows[0]["email"] == "citizen07@example.com"
    assert rows[1]["status"] == "NOT_REGISTERED"
    assert (result.exit_code, summary(result)) == (4, "2489 looked up, 11 refused")


def test_all_looked_up_is_exit_code_0(krr: Krr) -> None:
    result = krr("look-up", "--file", "-", standard_input=f"{OLA}\n{DELETED}\n".encode())

    assert (result.exit_code, summary(result)) == (0, "2 looked up, 0 refused")


def test_a_row_says_what_json_says(krr: Krr) -> None:
    persons = f"{WITH_DIGIPOST}\n{WITH_EXPIRED_POINTS}\n{DELETED}\n12345678901\n".encode()
    rows = rows_of(krr("look-up", "--file", "-", standard_input=persons).stdout)
    lines = krr("look-up", "--file", "-", "--json", standard_input=persons).stdout.splitlines()
    digipost, expired, deleted, malformed = map(json.loads, lines)

    assert rows[0] == {
        "identifier": WITH_DIGIPOST,
        "status": "ACTIVE",
        "reservation": "NOT_RESERVED",
        "notifiable": "YES",
        "letter_route": "MAILBOX",
        "letter_route_reason": "MAILBOX_CHOSEN",
        "email": digipost["person"]["email"]["value"],
        "email_usable_until": digipost["person"]["email"]["usable_until_time"],
        "email_shared": "false",
        "mobile": digipost["person"]["mobile"]["value"],
        "mobile_usable_until": digipost["person"]["mobile"]["usable_until_time"],
        "mobile_shared": "false",
        "expired": "",
        "language": "",
        "operator": DIGIPOST,
        "mailbox_address": digipost["person"]["mailbox"]["address"],
        "change_number": digipost["person"]["change_number"],
        "deletion_reason": "",
        "refusal": "",
    }
    assert (rows[1]["email"], rows[1]["expired"]) == ("", "EMAIL MOBILE")
    assert expired["expired_contacts"] == ["CONTACT_KIND_EMAIL", "CONTACT_KIND_MOBILE"]
    # What is not said must not be read as "not reserved".
    assert (rows[2]["status"], rows[2]["reservation"]) == ("DELETED", "")
    assert deleted["person"]["status"] == "PERSON_STATUS_DELETED"
    assert {key: value for key, value in rows[3].items() if value} == {
        "identifier": "12345678901",
        "refusal": "INVALID_IDENTIFIER",
    }
    assert malformed["refusal"] == "ERROR_REASON_INVALID_IDENTIFIER"


def test_whatever_a_value_holds_the_csv_holds_it_unchanged(krr: Krr) -> None:
    address = '=HYPERLINK("x"),;\'@\\n+æ'
    chosen = krr("operator", "create-and-choose", "eboks", OLA, "--address", address)
    assert chosen.exit_code == 0
    assert krr("update-contact", OLA, "--email", "=1+2@example.com").exit_code == 0
    [row] = rows_of(krr("look-up", OLA, "--csv").stdout)

    assert (row["operator"], row["mailbox_address"], row["email"]) == (EBOKS, address, "=1+2@example.com")


def test_a_shared_contact_point_is_marked(krr: Krr) -> None:
    for person in (OLA, WITH_DIGIPOST):
        assert krr("update-contact", person, "--email", "family@example.com").exit_code == 0

    def shared() -> tuple[str, str]:
        [row] = rows_of(krr("look-up", OLA, "--csv").stdout)
        return row["email_shared"], row["mobile_shared"]

    # A job of the register's finds them within seconds.
    wait_until(lambda: shared() == ("true", "false"), 10, "the address counts as shared")
    assert re.search(r"family@example.com \(until [0-9-]+, shared\)", krr("look-up", OLA).stdout)
    shown = krr("get-person", OLA).stdout
    assert "email: also stands on other persons; use one that is yours alone" in shown
    assert "mobile: also" not in shown


def test_a_malformed_identifier_among_arguments_is_exit_code_4_too(krr: Krr) -> None:
    result = krr("look-up", OLA, "1")

    assert result.exit_code == 4
    assert "citizen07@example.com" in result.stdout
    assert "INVALID_IDENTIFIER" in result.stdout


def test_an_output_appears_when_it_is_whole_for_its_owner_only(krr: Krr, tmp_path: Path) -> None:
    output = tmp_path / "new" / "persons.csv"
    output.parent.mkdir()
    output.with_name("persons.csv.part").write_text("from an earlier failure\n" * 100)
    result = krr("look-up", OLA, "--csv", "--output", str(output))

    assert (result.exit_code, result.stdout) == (0, "")
    assert [row["identifier"] for row in rows_of(output.read_text())] == [OLA]
    assert list(output.parent.iterdir()) == [output]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (refuses(grpc.StatusCode.PERMISSION_DENIED, "CALLER_NOT_ALLOWED"), 1),
        (refuses(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"), 3),
    ],
    ids=["refused", "away"],
)
def test_a_failure_midway_leaves_the_old_file_and_what_came_in_a_part(
    scripted: ScriptedRegister, tmp_path: Path, failure: Act, code: int
) -> None:
    persons = list(islice(synthetic_identifiers(), 3500))
    (tmp_path / "ids.txt").write_text("\n".join(persons))
    output = tmp_path / "persons.csv"
    output.write_text("old")
    scripted.acts.extend([after(2, failure), *[failure] * 100])
    failed = krr_at(scripted.port)(
        *("look-up", "--file", str(tmp_path / "ids.txt"), "--output", str(output), "--give-up-after", "0.2")
    )
    part = tmp_path / "persons.csv.part"

    assert failed.exit_code == code
    assert failed.stderr.splitlines()[0] == f"stopped after 2000 identifiers; they are in {part}"
    assert output.read_text() == "old"
    assert [row["identifier"] for row in rows_of(part.read_text())] == persons[:2000]


def test_a_reader_that_has_enough_ends_a_look_up_quietly(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    file.write_text(f"{OLA}\n" * 20_000)
    with command(server.port, "look-up", "--file", str(file)) as look_up:
        assert look_up.process.stdout
        assert look_up.process.stdout.readline().startswith("identifier,")
        look_up.stop_reading()
        assert look_up.end() == (141, "")


def test_ctrl_c_leaves_a_part(server: Server, tmp_path: Path) -> None:
    file, output = tmp_path / "ids.txt", tmp_path / "persons.jsonl"
    file.write_text(f"{OLA}\n" * 200_000)
    part = tmp_path / "persons.jsonl.part"
    with command(server.port, "look-up", "--file", str(file), "--json", "--output", str(output)) as look_up:
        while not (part.exists() and part.stat().st_size):
            assert look_up.process.poll() is None
        look_up.interrupt()
        code, said = look_up.end()

    assert code == 130
    assert re.fullmatch(rf"stopped after \d+ identifiers; they are in {part}\n", said)
    assert part.exists()
    assert not output.exists()


@pytest.mark.parametrize(
    ("content", "line"), [(b"11822648950\n\xff\xfe1\n", "line 2"), ("1\n".encode("utf-16"), "line 1")]
)
def test_a_file_that_is_no_text_is_named_by_its_line(
    krr: Krr, tmp_path: Path, content: bytes, line: str
) -> None:
    file = tmp_path / "ids"
    file.write_bytes(content)
    refused = krr("look-up", "--file", str(file))

    assert refused.exit_code == 2
    assert line in refused.stderr
    assert OLA not in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["look-up"],
        ["look-up", OLA, "--file", "-"],
        ["look-up", OLA, "--csv", "--json"],
        ["look-up", OLA, "--output", "x"],
        ["look-up", OLA, "--csv", "--output", "/dev/null"],
        ["look-up", OLA, "--csv", "--output", "/nonexistent/x"],
        ["look-up", "--file", "/nonexistent"],
        ["look-up", "--file", "/"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert krr_at(1)(*arguments).exit_code == 2


WHITE_SPACE = st.text(" \t\r\u00a0", max_size=3)
COMMENT = st.one_of(
    st.just(""), st.text(st.characters(codec="utf-8", exclude_characters="\n")).map("#{}".format)
)


@given(
    st.lists(st.tuples(WHITE_SPACE, st.sampled_from(["", OLA, "1", "æ 1"]), WHITE_SPACE, COMMENT)),
    st.booleans(),
)
def test_only_identifiers_are_left_of_a_file(
    lines: list[tuple[str, str, str, str]], has_byte_order_mark: bool
) -> None:
    text = "\n".join("".join(line) for line in lines)
    content = text.encode("utf-8-sig" if has_byte_order_mark else "utf-8")

    assert list(identifiers_in(io.BytesIO(content))) == [
        identifier for _, identifier, _, _ in lines if identifier
    ]


@given(st.binary())
def test_any_file_gives_identifiers_or_says_that_it_is_no_text(content: bytes) -> None:
    try:
        found = list(identifiers_in(io.BytesIO(content)))
    except NotText as refused:
        assert re.fullmatch(r"line \d+ is not text in UTF-8", str(refused))
    else:
        assert all(0 < len(identifier) <= 64 for identifier in found)
