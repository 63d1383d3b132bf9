"""What every path works with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import closed_loop
from tests.bench.machine import cpu_seconds
from tests.bench.population import Population
from tests.bench.raw_reads import RawReads
from tests.bench.register import MAIN, SPARE, Cluster, Register
from tests.bench.runs import Run, Watched

_CITIZENS = """
    SELECT identifier FROM person WHERE status = 'ACTIVE' AND email IS NOT NULL AND mobile IS NOT NULL
    ORDER BY id LIMIT %s
"""


@dataclass(frozen=True)
class Bench:
    """A register with a population, served on a core of its own.

    messages: the file of the messages that imported the population.
    sizes: of the register that grows, in persons.
    seconds: how long a run takes.
    folder: for what is needed meanwhile.
    """

    cluster: Cluster
    register: Register
    population: Population
    messages: Path
    sizes: Sequence[int]
    seconds: float
    folder: Path

    def watched(self, register: Register) -> Watched:
        """Whose CPU time to read while the register is at work."""
        return {"server": lambda: cpu_seconds(register.process), "database": self.cluster.cpu_seconds}

    def raw_reads(self, reads: RawReads) -> Run:
        """The floor of reads, in the server's place."""
        watched = {"database": self.cluster.cpu_seconds}
        run = closed_loop.run("tests.bench.raw_reads", [reads], self.folder, watched, in_place=True)
        return replace(run, cpu={"database": run.cpu["database"], "reader": run.cpu["caller"]})

    def clone(self, database: str) -> None:
        """Make a database with the population as it was imported."""
        self.cluster.clone(SPARE, database)

    def citizens(self, most: int) -> list[str]:
        """Identifiers of active persons with contact info; the same ones each time."""
        with self.cluster.connect(MAIN) as connection:
            return [row[0] for row in connection.execute(_CITIZENS, [most])]
