"""What the README tells to do, done: the walk, with its output, and an independent client."""

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.up import Everything, everything_up

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
_LOOK_UP = re.search(r"buf curl .*?LookUpPersons", README, re.DOTALL)

# KRR's published test persons: reserved, status, notifiable, mobile, e-mail, mailbox, language.
PUBLISHED = {
    "11887197158": ("NO", "ACTIVE", "NO", "mobile", "email", "", ""),
    "30850649509": ("NO", "ACTIVE", "NO", "mobile", "email", "", ""),
    "17894199350": ("", "DELETED", "NO", "", "", "", ""),
    "31855699330": ("", "DELETED", "NO", "", "", "", ""),
    "04846697271": ("YES", "ACTIVE", "NO", "mobile", "email", "", ""),
    "29890749036": ("YES", "ACTIVE", "NO", "mobile", "email", "", ""),
    "11822648950": ("NO", "ACTIVE", "YES", "mobile", "email", "", ""),
    "06828498159": ("NO", "ACTIVE", "YES", "mobile", "email", "", ""),
    "23837998492": ("NO", "ACTIVE", "YES", "mobile", "", "", ""),
    "25887098029": ("NO", "ACTIVE", "YES", "mobile", "", "", ""),
    "12869699835": ("NO", "ACTIVE", "YES", "", "email", "", ""),
    "18868299939": ("NO", "ACTIVE", "YES", "", "email", "", ""),
    "22859197810": ("NO", "ACTIVE", "YES", "mobile", "email", "984661185", ""),
    "26826499361": ("NO", "ACTIVE", "YES", "mobile", "email", "922020175", ""),
    "26866595592": ("YES", "ACTIVE", "NO", "", "email", "", ""),
    "18886799280": ("NO", "ACTIVE", "YES", "mobile", "email", "", "NN"),
    "16867096934": ("NO", "ACTIVE", "YES", "mobile", "email", "", "NB"),
    "01814797763": ("NO", "ACTIVE", "YES", "mobile", "email", "", "EN"),
}


@pytest.fixture(scope="module")
def everything() -> Iterator[Everything]:
    """All that `krr up` starts, on free ports."""
    with everything_up() as running:
        yield running


def test_an_independent_client_finds_the_test_persons_as_published(everything: Everything) -> None:
    # A service message, so that expired values are given as the published table shows them.
    answer = _buf_curl(
        everything,
        "krr.v1.RegisterService/LookUpPersons",
        {"identifiers": list(PUBLISHED), "purpose": "PURPOSE_SERVICE_MESSAGE"},
    )

    assert {entry["requestedIdentifier"]: _as_published(entry) for entry in answer["entries"]} == PUBLISHED
    assert _buf_curl(everything, "grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}


def test_the_walk_goes_as_printed(everything: Everything) -> None:
    walk = re.findall(r"```console\n\$ (.*?)\n(.*?)```", README, re.DOTALL)
    assert len(walk) == 6
    for command, printed in walk[1:]:
        ends = time.monotonic() + 30
        # What happens outside follows within seconds; only what reads is asked again.
        while (found := _masked(everything.shell(command))) != _masked(printed):
            assert "open-account" not in command
            assert time.monotonic() < ends, f"{command}\nprinted:\n{found}\nREADME:\n{_masked(printed)}"
            time.sleep(0.2)


def test_the_readmes_buf_curl_works(everything: Everything) -> None:
    assert _LOOK_UP
    command = _LOOK_UP[0].replace("127.0.0.1:50051", everything.register)

    answer = json.loads(everything.shell(command))

    assert answer["entries"][0]["person"]["status"] == "PERSON_STATUS_ACTIVE"


def _as_published(entry: Any) -> tuple[str, ...]:
    person = entry["person"]
    reservation = {"RESERVATION_RESERVED": "YES", "RESERVATION_NOT_RESERVED": "NO", None: ""}
    return (
        reservation[person.get("reservation")],
        person["status"].removeprefix("PERSON_STATUS_"),
        entry["notifiable"].removeprefix("NOTIFIABLE_"),
        "mobile" if "mobile" in person else "",
        "email" if "email" in person else "",
        person.get("mailbox", {}).get("operatorOrganisationNumber", ""),
        person.get("language", "").removeprefix("LANGUAGE_"),
    )


def _buf_curl(everything: Everything, method: str, body: dict[str, object]) -> Any:
    credential = "authorization: Development public-body/991825827"
    return json.loads(
        everything.shell(
            f"buf curl --protocol grpc --http2-prior-knowledge -H {shlex.quote(credential)}"
            f" -d {shlex.quote(json.dumps(body))} http://{everything.register}/{method}"
        )
    )


def _masked(text: str) -> str:
    """Without what differs from one run to the next: random parts, times, widths."""
    text = re.sub(r"#[A-Z0-9]{4}\b", "#XXXX", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?", "TIME", text)
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines() if line.strip())
