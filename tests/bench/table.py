"""The report as tables."""

from collections.abc import Callable, Mapping
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.bench.goals import Goal
from tests.bench.report import Outcome, Report
from tests.bench.runs import Row, Run

_WIDTH = 140
_STYLES = {"aim": "green", "must": "yellow", "below": "red"}
_WHO = ("server", "database", "caller")
_FLOOR = ("server", "reader")


def print_report(report: Report, last: Mapping[str, float]) -> None:
    """Print the report; last: the last run's figures, by the names of their rows."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(_figures(report, last))
    console.print(_limits(report))
    console.print(f"{report.persons:,} persons; {report.rounds} rounds of {report.seconds:g} s; medians.")
    if report.loading:
        console.print(report.loading)
    for name, why in report.left_out.items():
        console.print(f"{name} left out: {why}")
    for name, why in report.failed.items():
        console.print(f"[red]{name} failed:[/red] ", end="")
        console.print(why, markup=False)


def _figures(report: Report, last: Mapping[str, float]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for heading in ("path", "unit", "floor", "ours", "measured", "must", "aim", "", "last run"):
        table.add_column(heading, justify="left" if heading in ("path", "unit", "") else "right")
    for outcome in report.outcomes:
        for row in outcome.rows():
            before = last.get(row.name)
            table.add_row(
                row.name,
                row.unit,
                "" if row.floor is None else _number(row.floor),
                _number(row.ours),
                "" if row.measured is None else _with_unit(row.measured, row.goal),
                *(_wanted(row.goal, figure) for figure in ("must", "aim")),
                _verdict(row),
                "" if before is None else _number(before),
            )
    return table


def _limits(report: Report) -> Table:
    """Where the time of ours goes: whoever has a core of its own and is busy all the time is the limit."""
    table = Table(box=SIMPLE_HEAD)
    table.add_column("µs of CPU time an item")
    table.add_column("floor", justify="right")
    for who in _WHO:
        table.add_column(who, justify="right")
        table.add_column("busy", justify="right")
    table.add_column("99 % within, ms", justify="right")
    table.add_column("server's memory, MB", justify="right")
    for outcome in report.outcomes:
        cells = [cell for who in _WHO for cell in _use(outcome, who)]
        # In the server's place stands bare gRPC, or who reads without a server.
        floor = [run.cpu_microseconds(who) for run in outcome.floors for who in _FLOOR if who in run.cpu]
        p99 = _median(outcome, lambda run: run.p99 * 1e3)
        table.add_row(
            outcome.path.name,
            _number(median(floor)) if floor else "",
            *cells,
            _number(p99) if p99 else "",
            f"{outcome.megabytes:.0f}",
        )
    return table


def _use(outcome: Outcome, who: str) -> tuple[str, str]:
    if not all(who in run.cpu for run in outcome.ours):
        return "", ""
    busy = _median(outcome, lambda run: run.cpu[who] / run.seconds * 100)
    return _number(_median(outcome, lambda run: run.cpu_microseconds(who))), f"{busy:.0f} %"


def _median(outcome: Outcome, of: Callable[[Run], float]) -> float:
    return median(of(run) for run in outcome.ours)


def _verdict(row: Row) -> str:
    if row.goal is None or row.measured is None:
        return ""
    verdict = row.goal.verdict(row.measured)
    return f"[{_STYLES[verdict]}]{verdict}[/]" if verdict else ""


def _wanted(goal: Goal | None, name: str) -> str:
    figure = goal and getattr(goal, name)
    return "" if figure is None else f"{'≤ ' if goal and goal.at_most else ''}{figure:g}"


def _with_unit(figure: float, goal: Goal | None) -> str:
    return f"{_number(figure)} {goal.unit}" if goal else _number(figure)


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
