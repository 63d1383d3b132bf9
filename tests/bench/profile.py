"""Where a server's time goes, by py-spy, which looks in from outside."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.bench.processes import Failed

_RATE = 200  # samples a second
_SHOWN = 12


def profile(process: int, work: Callable[[], object], seconds: float, file: Path) -> str:
    """Sample what the process does during the work; the functions that took most, as text.

    file: for the stacks, one a line with its samples, as flame graphs and speedscope read them.

    Raises Failed where py-spy may not look into the process: only root may on some machines.
    """
    # Beside the interpreter, where the project's own tools are, or wherever it was installed.
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise Failed("there is no py-spy")
    command = [program, "record", "--pid", str(process)]
    command += [
        "--gil",
        "--format=raw",
        f"--rate={_RATE}",
        f"--duration={max(1, round(seconds))}",
        "--function",
    ]
    spy = subprocess.Popen(
        [*command, f"--output={file}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        work()
    finally:
        said = spy.communicate()[0]
    if spy.returncode:
        raise Failed(f"py-spy: {said.strip()[-300:]}")
    return _most(file.read_text())


def _most(stacks: str) -> str:
    itself: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        itself[frames[-1]] += int(samples)
        for frame in set(frames):
            within[frame] += int(samples)
    total = sum(itself.values()) or 1
    lines = [
        f"  {share / total * 100:4.0f} % {within[function] / total * 100:5.0f} %  {function}"
        for function, share in itself.most_common(_SHOWN)
    ]
    return "\n".join(["  itself, with what it calls", *lines])
