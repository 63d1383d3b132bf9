"""One-time codes on the command line."""

import json

import pytest
from krr_cli.up import TEST_CITIZENS

from server.__main__ import Server
from tests.clients.command_line import Krr, krr_at
from tests.conftest import Register
from tests.server.codes import other_than, read_code

WITH_BOTH_POINTS = "11822648950"


@pytest.fixture
def krr(server: Server) -> Krr:
    """Runs the command line against a register that holds the test citizens."""
    run = krr_at(server.port)
    assert run("load", str(TEST_CITIZENS)).exit_code == 0
    return run


@pytest.mark.parametrize(("point", "channel"), [("email", "email"), ("mobile", "sms")])
def test_a_code_that_was_sent_proves_the_contact_point(
    krr: Krr, register: Register, point: str, channel: str
) -> None:
    sent = krr("send-code", WITH_BOTH_POINTS, point)
    assert sent.stdout == "a code is on its way, good for 10 minutes; another one after 60 seconds\n"

    code = read_code(register, channel)
    wrong = krr("verify-contact", WITH_BOTH_POINTS, point, other_than(code))
    assert (wrong.exit_code, wrong.stderr.split(":")[0]) == (1, "CODE_WRONG")
    assert "validated" not in krr("get-person", WITH_BOTH_POINTS).stdout
    proved = krr("verify-contact", WITH_BOTH_POINTS, point, code)
    assert proved.stdout.startswith("changed; change number ")
    assert krr("get-person", WITH_BOTH_POINTS).stdout.count(", validated)") == 1
    again = krr("verify-contact", WITH_BOTH_POINTS, point, code)
    assert (again.exit_code, again.stderr.split(":")[0]) == (1, "CODE_EXPIRED")


def test_a_code_asked_for_too_soon_is_refused_with_the_time_to_wait(krr: Krr) -> None:
    first = json.loads(krr("send-code", WITH_BOTH_POINTS, "mobile", "--json").stdout)
    assert (first["code_lifetime"], first["resend_after"]) == ("600s", "60s")
    refused = krr("send-code", WITH_BOTH_POINTS, "mobile")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("CODE_TOO_SOON")
    assert "try again in " in refused.stderr


def test_the_same_request_sends_one_code(krr: Krr, register: Register) -> None:
    command = ["send-code", WITH_BOTH_POINTS, "email", "--request-id", "5f0c2a4e-7b1d-4a38-9c55-0d6e8f1a2b3c"]
    krr(*command)
    assert krr(*command).stdout.endswith("(the answer to an earlier call with this id)\n")
    assert read_code(register, "email")


def test_staff_see_by_which_channel_a_code_went_and_no_change_number(krr: Krr) -> None:
    krr("send-code", WITH_BOTH_POINTS, "email")
    krr("update-contact", WITH_BOTH_POINTS, "--mobile", "+4799999957")
    header, _, changed, code = (
        line.split() for line in krr("messages", "list").stdout.splitlines() if line.strip()
    )
    assert header[1:3] == ["kind", "channel"]
    assert changed[1:5] == ["CONTACT_CHANGED", "SMS", "nb", "QUEUED"]
    assert changed[5] == "19"
    assert code[1:5] == ["VERIFICATION_CODE", "EMAIL", "nb", "QUEUED"]
    # Straight to the day: a code follows from no change.
    assert "-" in code[5]
