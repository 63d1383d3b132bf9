"""One check, and how it finds out that the register did something else."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from krr_cli.operator_checks.operator_side import OperatorSide, Person


@dataclass(frozen=True)
class Check:
    """A promise of the contract, tried.

    name: what --only names.
    persons: how many it takes, each without a mailbox of the operator.
    promise: in one sentence.
    try_it: raises Surprise where the promise is broken, and RegisterError.
    """

    name: str
    persons: int
    promise: str
    try_it: Callable[[OperatorSide, list[Person]], None]


class State(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Outcome:
    """How a check ended.

    persons: the numbers of those it took.
    expected, came: where it failed, what differs; where it was skipped, `came` says why.
    away: skipped because the register is away.
    """

    check: Check
    state: State
    persons: tuple[int, ...] = ()
    expected: str = ""
    came: str = ""
    away: bool = False
