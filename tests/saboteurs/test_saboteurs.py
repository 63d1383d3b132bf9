"""The checks of the change feed catch each of its typical faults, and nothing where there is none."""

import random
from pathlib import Path

import pytest

from tests.e2e.episode import START, Episode
from tests.e2e.watchers import copies_astray, positions_astray, read_on, watch
from tests.e2e.writers import write
from tests.saboteurs.builds import FAULTS, HEAT, running

RUNS = 20
WRITES_IN_A_RUN = 100

pytestmark = pytest.mark.full_size_figures


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(fault: str, database_url: str, tmp_path: Path, full_size: bool) -> None:
    caught: dict[int, str] = {}
    runs = 0
    with running(tmp_path, database_url, (*HEAT, *FAULTS[fault])) as register:
        while runs < RUNS and (full_size or not caught):
            runs += 1
            violations = _violations(register, runs)
            if violations:
                caught[runs] = violations[0]

    assert caught, f"{fault}: not caught in {RUNS} runs"
    first = min(caught)
    print(f"{fault}: caught in {len(caught)} of {runs} runs, first in run {first} by {caught[first]}")


def test_without_a_fault_nothing_is_caught(database_url: str, tmp_path: Path, full_size: bool) -> None:
    runs = RUNS if full_size else RUNS // 10
    with running(tmp_path, database_url, HEAT) as register:
        for run in range(runs):
            assert not _violations(register, run)
    print(f"without a fault: nothing caught in {runs} runs")


def _violations(register: str, run: int) -> list[str]:
    """What a short run with many writers and watchers finds."""
    episode = Episode(register, longest_watch=1)
    with episode.under_way([write] * 8, [watch] * 20, seed=run):
        episode.wait_for(WRITES_IN_A_RUN, "acknowledged writes")
    found = list(episode.violations)
    if not found:
        in_the_register = read_on(register, START, random.Random(run))
        if astray := copies_astray(episode, in_the_register):
            found.append(f"{astray} copies that are not the register")
        if astray := positions_astray(episode, in_the_register):
            found.append(f"{astray} cursors that do not lead to the register")
    return found
