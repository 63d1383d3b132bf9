"""What each path must reach and what it should."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """Figures in a unit; None where nothing is demanded."""

    must: float | None
    aim: float | None
    unit: str
    at_most: bool = False

    def verdict(self, measured: float) -> str:
        """ "aim", "must", or "below"; nothing where nothing is demanded."""
        if self.must is None and self.aim is None:
            return ""
        for name, figure in (("aim", self.aim), ("must", self.must)):
            if figure is not None and (measured <= figure if self.at_most else measured >= figure):
                return name
        return "below"


UNARY = Goal(55, 65, "% of bare gRPC")
UNARY_P99 = Goal(None, 3, "× bare gRPC's", at_most=True)
LOOK_UPS = Goal(60, 75, "% of raw reads")
FEED = Goal(10, 15, "% of raw reads")
HEAD = Goal(50, 20, "ms", at_most=True)
WRITES = Goal(30, 50, "% of pgbench")
EVENTS = Goal(100, None, "% of pgbench")
IMPORT = Goal(60, 80, "% of COPY")
TRACING = Goal(10, 5, "µs a call", at_most=True)
ACCESS = Goal(20, 10, "µs a call", at_most=True)
GROWTH = Goal(10, 5, "% dearer", at_most=True)
# What is told beside.
GROWTH_OF_OTHERS = Goal(None, None, "% dearer", at_most=True)
TRACED = Goal(None, None, "µs a call", at_most=True)
