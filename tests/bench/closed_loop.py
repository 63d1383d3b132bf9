"""Callers that make their next call when the last is answered: several threads in several processes."""

import json
import pickle
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from tests.bench.processes import line_from, running
from tests.bench.runs import Run, Watched, centile_99, elapsed


class Plan(Protocol):
    """What one process shall do; pickled to reach it."""

    threads: int
    seconds: float


def run(program: str, plans: list[Any], folder: Path, watched: Watched, *, in_place: bool = False) -> Run:
    """Run the program, a module, once for each plan, all at the same time. Raises Failed.

    in_place: of the server, on its core.
    """
    log = folder / f"{program}.log"
    with ExitStack() as stack:
        processes = []
        for number, plan in enumerate(plans):
            file = folder / f"{program}-{number}.plan"
            file.write_bytes(pickle.dumps(plan))
            started = running("-m", program, str(file), in_the_servers_place=in_place, log=log)
            processes.append(stack.enter_context(started))
        for process in processes:
            line_from(process, log)
        with elapsed(watched) as passed:
            for process in processes:
                assert process.stdin
                process.stdin.write("go\n")
                process.stdin.flush()
            told = [json.loads(line_from(process, log)) for process in processes]
    times = [each for one in told for each in one["times"]]
    return Run(
        items=sum(one["items"] for one in told),
        seconds=max(one["seconds"] for one in told),
        p99=centile_99(times),
        cpu={**passed.cpu, "caller": sum(one["cpu"] for one in told)},
    )


def drive(prepare: Callable[[Any], Callable[[], Callable[[], int]]]) -> None:
    """The program's side: make calls as the plan named on the command line says.

    prepare: from the plan to what makes for each thread a call that tells how many items it
        brought. Each is made once before the time begins.
    """
    plan: Plan = pickle.loads(Path(sys.argv[1]).read_bytes())
    make = prepare(plan)
    calls = [make() for _ in range(plan.threads)]
    for once in calls:
        once()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    cpu, began = time.process_time(), time.monotonic()

    def loop(once: Callable[[], int]) -> tuple[int, list[float]]:
        items, times = 0, []
        now = began
        while now < began + plan.seconds:
            items += once()
            before, now = now, time.monotonic()
            times.append(now - before)
        return items, times

    with ThreadPoolExecutor(plan.threads) as pool:
        looped = [loop.result() for loop in [pool.submit(loop, once) for once in calls]]
    told = {
        "items": sum(items for items, _ in looped),
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "times": [each for _, times in looped for each in times],
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
