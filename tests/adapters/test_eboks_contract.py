"""The e-Boks sandbox against the contract, as schemathesis reads it: a tool nobody here wrote."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters import eboks as contract
from adapters.sandbox import eboks as sandbox
from tests.adapters.eboks_sandbox import EBoks

OPENAPI = Path(contract.__file__).with_name("openapi.json")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def schemathesis(eboks: EBoks, folder: Path, *phases: str) -> subprocess.CompletedProcess[str]:
    """Run these phases with every check: requests one by one, and sequences that the document links."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
        *("run", str(OPENAPI), "--url", eboks.url, "--header", f"Authorization: Bearer {eboks.token}"),
        *("--checks", "all", "--max-examples", "5", "--seed", "1", "--generation-database", "none"),
        *("--phases", ",".join(phases), "--warnings", "off", "--no-color"),
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_sandbox_does_as_the_contract_says(eboks: EBoks, tmp_path: Path) -> None:
    phases = ("examples", "coverage", "fuzzing", "stateful")
    run = schemathesis(eboks, tmp_path, *phases)
    assert run.returncode == 0, run.stdout + run.stderr
    for phase in phases:
        assert f"✅ {phase.title()}" in " ".join(run.stdout.split())


def _a_version_below_zero(patch: pytest.MonkeyPatch) -> None:
    answer = {"accountExists": True, "receivesPublicMail": False, "address": "a#1234567", "version": -1}
    patch.setattr(sandbox, "_state", lambda *_: answer)


def _a_status_of_its_own(patch: pytest.MonkeyPatch) -> None:
    problem = sandbox._problem
    patch.setattr(sandbox, "_problem", lambda _status, code: problem(418, code))


def _anybody_is_let_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sandbox, "hmac", SimpleNamespace(compare_digest=lambda *_: True))


@pytest.mark.parametrize(
    ("deviation", "said"),
    [
        (_a_version_below_zero, "Response violates schema"),
        (_a_status_of_its_own, "Unexpected response to a request without authentication"),
        (_anybody_is_let_in, "API accepts requests without authentication"),
    ],
)
def test_a_sandbox_that_deviates_from_the_contract_is_found_out(
    deviation: Callable[[pytest.MonkeyPatch], None],
    said: str,
    eboks: EBoks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deviation(monkeypatch)
    run = schemathesis(eboks, tmp_path, "examples")
    assert run.returncode == 1, run.stdout + run.stderr
    assert said in run.stdout
