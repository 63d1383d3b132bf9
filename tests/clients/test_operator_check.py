"""`krr operator check`: passes at the register as it is, fails at a wrong one, leaves nothing behind."""

from itertools import islice
from pathlib import Path

import pytest
from krr_cli.operator_checks.catalogue import checks

from server.__main__ import Server
from tests.clients.command_line import krr_at
from tests.conftest import Register
from tests.people import synthetic_identifiers
from tests.server.test_look_up import EMAIL, load

NEEDED = sum(check.persons for check in checks(other_operator=True))
PERSONS = list(islice(synthetic_identifiers(), NEEDED))


@pytest.fixture
def persons(register: Register, tmp_path: Path) -> Path:
    """A file of test persons that the register holds, fit for every check."""
    for identifier in PERSONS:
        load(register, identifier, email=EMAIL)
    file = tmp_path / "persons.txt"
    file.write_text("\n".join(PERSONS))
    return file


def test_every_check_passes_again_and_again_and_nothing_stays(
    server: Server, register: Register, persons: Path
) -> None:
    krr = krr_at(server.port)
    for _ in range(2):
        result = krr("operator", "check", "digipost", str(persons), "--other-operator", "eboks")
        assert result.exit_code == 0, result.output
