"""The bench at a tiny size: that it works, not what it finds."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.goals import Goal
from tests.bench.pgbench import script_of
from tests.bench.processes import Failed
from tests.bench.report import Report
from tests.bench.runs import Measure, Run, difference, row_of
from tests.bench.sent_statements import Statement
from tests.open_folder import open_folder

# Those that need no program which is not installed with the project.
PATHS = ("batch", "feed", "writes", "events", "access")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where the bench makes its folders."""
    with open_folder() as folder:
        yield folder


def bench(scratch: Path, kept: Path, paths: str, **environment: str) -> "subprocess.Popen[str]":
    """One very short round."""
    command = [sys.executable, "-m", "tests.bench", "--persons=300", "--rounds=1", "--seconds=0.1"]
    return subprocess.Popen(
        [*command, f"--paths={paths}", f"--output={kept}"],
        env=os.environ | {"TMPDIR": str(scratch)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ctrl-C reaches all in the terminal's group.
        start_new_session=True,
    )


def test_a_tiny_run_fills_a_row_for_each_path_and_leaves_nothing_behind(
    scratch: Path, tmp_path: Path
) -> None:
    with bench(scratch, tmp_path, ",".join(PATHS)) as run:
        printed, said = run.communicate(timeout=120)

    assert run.returncode == 0, said + printed
    [file] = tmp_path.glob("*.json")
    rows = json.loads(file.read_text())["rows"]
    assert [row["name"] for row in rows if row["ours"] > 0 and row["measured"] > 0] == [
        "look-up by the thousand",
        "feed, catching up",
        "writes one by one",
        "events pushed",
        "access check",
    ]
    assert not list(scratch.iterdir())


def test_what_does_not_start_is_a_failure_told_in_a_line(scratch: Path, tmp_path: Path) -> None:
    with bench(scratch, tmp_path, "batch", KRR_PG_BIN=str(tmp_path)) as run:
        _, said = run.communicate(timeout=120)

    assert run.returncode == 1
    assert "PostgreSQL did not start" in said.splitlines()[-1]
    assert not list(scratch.iterdir())


def test_control_c_leaves_nothing_behind(scratch: Path, tmp_path: Path) -> None:
    with bench(scratch, tmp_path, "batch") as run:
        assert run.stderr
        for line in run.stderr:
            if line == "importing them\n":
                os.killpg(run.pid, signal.SIGINT)
                break
        run.communicate(timeout=120)

    assert run.returncode == 130
    assert not list(scratch.iterdir())


def test_a_path_that_fails_is_told_and_does_not_end_the_others() -> None:
    report = Report(persons=1, rounds=1, seconds=1, facts={})

    with report.telling("writes"):
        raise Failed("not every write was answered")

    assert report.failed == {"writes": "Failed: not every write was answered"}


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    floors = [Run(items, 1.0) for items in (100, 200, 1000)]
    ours = [Run(items, 1.0) for items in (50, 80, 900)]

    row = row_of(Measure("path", "calls/s"), floors, ours)

    assert (row.floor, row.ours, row.measured) == (200, 80, 50)


def test_a_cost_is_compared_by_its_difference() -> None:
    cost = Measure("path", "µs", lambda run: run.cpu_microseconds("server"), difference)

    row = row_of(cost, [Run(100, 1.0, cpu={"server": 0.005})], [Run(100, 1.0, cpu={"server": 0.006})])

    assert row.measured == pytest.approx(10)


@pytest.mark.parametrize(
    ("goal", "measured", "verdict"),
    [
        (Goal(55, 65, "%"), 65.0, "aim"),
        (Goal(55, 65, "%"), 64.9, "must"),
        (Goal(55, 65, "%"), 54.9, "below"),
        (Goal(50, 20, "ms", at_most=True), 20.0, "aim"),
        (Goal(50, 20, "ms", at_most=True), 50.0, "must"),
        (Goal(50, 20, "ms", at_most=True), 50.1, "below"),
        (Goal(None, 3, "×", at_most=True), 3.1, "below"),
        (Goal(None, None, "µs"), 3.1, ""),
    ],
)
def test_a_figure_is_judged_by_its_goal(goal: Goal, measured: float, verdict: str) -> None:
    assert goal.verdict(measured) == verdict


def test_a_transaction_becomes_a_script_with_other_values_each_time() -> None:
    row = Statement("INSERT INTO history VALUES ($1::BIGINT, $2)", {1: "'7'", 2: "'email'"})
    statements = [
        Statement("UPDATE register SET n = n + 1 RETURNING n", {}),
        Statement("UPDATE person SET at = $2 WHERE id = $1", {1: "'7'", 2: "'2026-11-22 10:00:00+00'"}),
        row,
        row,
    ]

    script = script_of(
        statements,
        lambda literal: ":person" if literal == "'7'" else literal,
        lambda text: "RETURNING" in text,
    )

    assert script.splitlines() == [
        "BEGIN;",
        "UPDATE register SET n = n + 1 RETURNING n \\gset",
        "UPDATE person SET at = E'2026-11-22 10\\07200\\07200+00' WHERE id = :person;",
        "\\startpipeline",
        "INSERT INTO history VALUES (:person::BIGINT, 'email');",
        "INSERT INTO history VALUES (:person::BIGINT, 'email');",
        "\\endpipeline",
        "COMMIT;",
    ]
