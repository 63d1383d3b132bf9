"""Runs of a path and of its floor, in turns, and what is made of them."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

from tests.bench.goals import Goal

# Reads the CPU seconds that each has used so far, by name.
Watched = Mapping[str, Callable[[], float]]


@dataclass(frozen=True)
class Run:
    """One run of one side.

    items: calls, persons or changes that came through in so many seconds.
    p99: seconds of a call; 0 where calls are not timed.
    cpu: CPU seconds used meanwhile, by who used them.
    megabytes: how much memory the server took besides.
    """

    items: int
    seconds: float
    p99: float = 0.0
    cpu: Mapping[str, float] = field(default_factory=dict)
    megabytes: float = 0.0

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    def cpu_microseconds(self, *of: str) -> float:
        """Of an item."""
        return sum(self.cpu[who] for who in of) / max(1, self.items) * 1e6


@dataclass
class Elapsed:
    """Time and CPU seconds that something took; known when it is over."""

    seconds: float = 0.0
    cpu: Mapping[str, float] = field(default_factory=dict)


@contextmanager
def elapsed(watched: Watched) -> Iterator[Elapsed]:
    """What passes within."""
    before, began, passed = {who: used() for who, used in watched.items()}, time.monotonic(), Elapsed()
    yield passed
    passed.seconds = time.monotonic() - began
    passed.cpu = {who: used() - before[who] for who, used in watched.items()}


def centile_99(values: Sequence[float]) -> float:
    """0 for none."""
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0


def share(floor: float, ours: float) -> float:
    """Ours in percent of the floor."""
    return ours / floor * 100


def growth(floor: float, ours: float) -> float:
    """By how many percent ours is above the floor."""
    return share(floor, ours) - 100


def difference(floor: float, ours: float) -> float:
    """How much ours is above the floor."""
    return ours - floor


def multiple(floor: float, ours: float) -> float:
    """Ours as a multiple of the floor."""
    return ours / floor


@dataclass(frozen=True)
class Measure:
    """What of a path's runs stands in one row of the table.

    of: what is taken of a run, in that unit; the table shows medians over the rounds.
    compare: makes of a round's floor and ours what the goal speaks of; None where ours by itself is.
    """

    name: str
    unit: str
    of: Callable[[Run], float] = lambda run: run.rate
    compare: Callable[[float, float], float] | None = share
    goal: Goal | None = None


@dataclass(frozen=True)
class Path:
    """A path of the register; each of its runs takes some seconds.

    floor: None for one that nothing is compared with.
    process: the server whose profile tells where the time goes; None where that tells nothing.
    plotted: the line in the plot of cost against size, and the size in persons, where there is one.
    turns: how often floor and ours alternate in a round.
    """

    name: str
    measures: Sequence[Measure]
    ours: Callable[[], Run]
    floor: Callable[[], Run] | None = None
    process: int | None = None
    plotted: tuple[str, int] | None = None
    turns: int = 1


# What a path needs lives as long as the generator is not closed.
Paths = Generator[Path, None, None]


@dataclass(frozen=True)
class Row:
    """A measure after all rounds; floor and measured are None where there is none."""

    name: str
    unit: str
    floor: float | None
    ours: float
    measured: float | None
    goal: Goal | None

    @property
    def figure(self) -> float:
        """What to compare from one run of the bench to the next."""
        return self.ours if self.measured is None else self.measured


def run_rounds(path: Path, rounds: int) -> tuple[list[Run], list[Run]]:
    """The floor's runs and ours, in turns."""
    floors, ours = [], []
    for _ in range(rounds * path.turns):
        if path.floor:
            floors.append(path.floor())
        ours.append(path.ours())
    return floors, ours


def row_of(measure: Measure, floors: Sequence[Run], ours: Sequence[Run]) -> Row:
    """The measure's medians; of ratios the median of the rounds' ratios."""
    ours_values = [measure.of(run) for run in ours]
    floor_values = [measure.of(run) for run in floors]
    if measure.compare and floor_values:
        compared = [measure.compare(*pair) for pair in zip(floor_values, ours_values, strict=True)]
        measured: float | None = median(compared)
    else:
        measured = median(ours_values) if measure.goal else None
    floor = median(floor_values) if floor_values and measure.compare else None
    return Row(measure.name, measure.unit, floor, median(ours_values), measured, measure.goal)
