"""How far a command has come, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bar(total: int | None, *, to_standard_output: bool) -> Iterator[Callable[[int], None]]:
    """Shows how many are done, when it is told so.

    total: how many there are; None where nobody knows.
    to_standard_output: whether the command writes there; on a terminal nothing is shown then.

    Shows nothing where standard error is no terminal.
    """
    console = Console(stderr=True)
    if not console.is_terminal or (to_standard_output and sys.stdout.isatty()):
        yield _show_nothing
        return
    time = TimeRemainingColumn() if total else TimeElapsedColumn()
    columns = (BarColumn(), MofNCompleteColumn(), time)
    # Standard output is for what is written: Rich would send it to this console.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)


def _show_nothing(_: int) -> None:
    pass
