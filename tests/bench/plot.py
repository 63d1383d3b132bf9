"""A picture of cost against the size of the register."""

import math
from collections.abc import Sequence
from pathlib import Path

import pygal

from tests.bench.report import Outcome


def plot_growth(outcomes: Sequence[Outcome], persons: int, file: Path) -> None:
    """Draw what each path costs at each size, in percent of the cost at so many persons."""
    lines: dict[str, list[tuple[float, float]]] = {}
    sizes = {persons}
    for outcome in outcomes:
        if outcome.path.plotted:
            name, size = outcome.path.plotted
            [row] = outcome.rows()
            sizes.add(size)
            lines.setdefault(name, [(math.log10(persons), 100.0)]).append(
                (math.log10(size), 100 + row.figure)
            )
    chart = pygal.XY(
        title=f"CPU time, in percent of that at {persons:,} persons",
        x_title="persons in the register",
        range=(0, max(150.0, *(y for line in lines.values() for _, y in line))),
        js=[],
    )
    chart.x_labels = [{"value": math.log10(size), "label": f"{size:,}"} for size in sorted(sizes)]
    for name, line in lines.items():
        chart.add(name, line)
    chart.render_to_file(str(file))
