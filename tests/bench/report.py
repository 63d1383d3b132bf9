"""What a run of the bench found, kept as JSON to compare the next one with."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any

from tests.bench.runs import Path, Row, Run, row_of


@dataclass(frozen=True)
class Outcome:
    """A path after all rounds.

    megabytes: the server's memory afterwards.
    """

    path: Path
    floors: list[Run]
    ours: list[Run]
    megabytes: float

    def rows(self) -> list[Row]:
        """One for each measure."""
        return [row_of(measure, self.floors, self.ours) for measure in self.path.measures]


@dataclass
class Report:
    """A run of the bench.

    loading: how the population was imported.
    left_out: paths that were not run, and why.
    failed: what went wrong, by path.
    """

    persons: int
    rounds: int
    seconds: float
    facts: dict[str, str]
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    loading: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def telling(self, path: str) -> Iterator[None]:
        """Take down what fails within and go on: the other paths still have something to tell."""
        try:
            yield
        except Exception as failure:
            self.failed[path] = f"{type(failure).__name__}: {failure}"

    def save(self, folder: FilePath) -> FilePath:
        """Write it to a file in the folder; which."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.began:%Y-%m-%dT%H%M%S}.json"
        content = {
            "began": self.began.isoformat(),
            "persons": self.persons,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "facts": self.facts,
            "loading": self.loading,
            "left_out": self.left_out,
            "failed": self.failed,
            "rows": [_row(row) for outcome in self.outcomes for row in outcome.rows()],
            "paths": [
                {
                    "name": outcome.path.name,
                    "server_megabytes": round(outcome.megabytes, 1),
                    "floors": [asdict(run) for run in outcome.floors],
                    "ours": [asdict(run) for run in outcome.ours],
                }
                for outcome in self.outcomes
            ],
        }
        file.write_text(json.dumps(content, indent=1) + "\n")
        return file


def last_figures(folder: FilePath, persons: int) -> dict[str, float]:
    """What the newest report on as many persons says, by the names of its rows."""
    for file in sorted(folder.glob("*.json"), reverse=True):
        content = json.loads(file.read_text())
        if content["persons"] == persons:
            return {row["name"]: row["figure"] for row in content["rows"]}
    return {}


def _row(row: Row) -> dict[str, Any]:
    verdict = row.goal and row.measured is not None and row.goal.verdict(row.measured)
    return {**asdict(row), "figure": row.figure, "verdict": verdict or None}
