"""`krr operator check` finds what a register gets wrong, and names the promise."""

import json
from itertools import islice
from pathlib import Path

import pytest
from krr_cli.register import REFUSED
from krr_client import connect

from tests.clients.command_line import krr_at
from tests.conftest import Register
from tests.people import synthetic_identifiers
from tests.saboteurs.builds import BROKEN_PROMISES, running
from tests.server.test_look_up import EMAIL, load


@pytest.mark.parametrize("fault", BROKEN_PROMISES)
def test_a_broken_promise_is_found_by_its_check(fault: str, database_url: str, tmp_path: Path) -> None:
    check, edits = BROKEN_PROMISES[fault]
    identifiers = list(islice(synthetic_identifiers(), 4))
    persons = tmp_path / "persons"
    persons.write_text("\n".join(identifiers))
    with running(tmp_path, database_url, edits) as address:
        with connect(address, "Development administrator/test") as channel:
            for identifier in identifiers:
                load(Register(lambda _: channel), identifier, email=EMAIL)
        krr = krr_at(int(address.rpartition(":")[2]))
        result = krr(
            *("operator", "check", "digipost", str(persons), "--json"),
            *("--only", check, "--other-operator", "eboks"),
        )

    assert result.exit_code == REFUSED, result.output
    outcomes = [json.loads(line) for line in result.stdout.splitlines()]
    assert outcomes[0]["check"] == check
    assert outcomes[0]["state"] == "failed"
