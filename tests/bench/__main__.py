"""Measure the register beside its floors; PERSONS, ROUNDS and the like: see `make help`.

    python -m tests.bench --persons 100000 --rounds 3

Ends with 1 only where something failed, never because the machine is slow.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path as FilePath

from tests.bench import events, feed, growth, h2load, imports, look_ups, overheads, population, writes
from tests.bench.answers import check_feed, check_look_ups
from tests.bench.bench import Bench
from tests.bench.machine import facts, leave_a_core_to_the_server, resident_megabytes
from tests.bench.population import Population
from tests.bench.processes import Failed
from tests.bench.profile import profile
from tests.bench.register import MAIN, SPARE, Cluster, Register, serving
from tests.bench.report import Outcome, Report, last_figures
from tests.bench.runs import Paths, run_rounds
from tests.bench.table import print_report

PATHS: dict[str, Callable[[Bench], Paths]] = {
    "unary": look_ups.unary,
    "batch": look_ups.batch,
    "stream": look_ups.stream,
    "feed": feed.catching_up,
    "head": feed.at_the_head,
    "writes": writes.writes,
    "events": events.events,
    "deliveries": writes.deliveries,
    "import": imports.imports,
    "tracing": overheads.tracing,
    "access": overheads.access_check,
    "growth": growth.grow,
}
_NEED_H2LOAD = ("unary", "tracing")
_SIZES = [300_000, 1_000_000]


def main() -> None:
    options = _options()
    leave_a_core_to_the_server()
    # As Ctrl-C: what was started ends, and its folders go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report(options.persons, options.rounds, options.seconds, facts())
    last = last_figures(options.output, options.persons)
    chosen = dict.fromkeys([*options.paths, *(["growth"] if options.growth else [])])
    if not h2load.is_installed():
        for name in (each for each in _NEED_H2LOAD if each in chosen):
            report.left_out[name] = "it needs h2load (Debian: apt-get install nghttp2-client)"
            del chosen[name]
    try:
        with _bench(options, report) as bench:
            for name in chosen:
                _run(name, bench, options, report)
    except KeyboardInterrupt:
        sys.exit(130)
    except (Failed, RuntimeError) as failure:
        # What everything else stands on did not start.
        sys.exit(str(failure))
    print_report(report, last)
    _say(f"kept in {report.save(options.output)}")
    if "growth" in chosen and "growth" not in report.failed:
        # Drawing takes long to load, and is seldom asked for.
        from tests.bench.plot import plot_growth

        picture = options.output / "growth.svg"
        plot_growth(report.outcomes, report.persons, picture)
        _say(f"drawn in {picture}")
    sys.exit(1 if report.failed else 0)


@contextmanager
def _bench(options: argparse.Namespace, report: Report) -> Iterator[Bench]:
    """A register with its population, checked by a real client; nothing is left of it afterwards."""
    with tempfile.TemporaryDirectory(prefix="krr-bench-") as name:
        folder = FilePath(name)
        # The user who runs PostgreSQL must be able to enter it.
        folder.chmod(0o711)
        persons, messages = Population(options.persons), folder / "messages"
        _say(f"generating {options.persons:,} persons")
        persons.generate(messages)
        cluster = Cluster(folder / "postgres")
        try:
            report.facts["postgresql"] = cluster.version
            _say("importing them")
            with serving(cluster, MAIN, folder / "importing") as register:
                report.loading = _loaded(cluster, register, persons, messages)
            cluster.clone(MAIN, SPARE)
            with serving(cluster, MAIN, folder / "serving") as register:
                _say("checking the answers")
                check_look_ups(register, persons)
                check_feed(register, persons)
                yield Bench(
                    cluster, register, persons, messages, options.growth or _SIZES, options.seconds, folder
                )
        finally:
            cluster.stop()


def _loaded(cluster: Cluster, register: Register, persons: Population, messages: FilePath) -> str:
    """Import the population; how that went."""
    memory = [resident_megabytes(register.process)]
    began = time.monotonic()
    loaded = population.load(register, messages, lambda: memory.append(resident_megabytes(register.process)))
    seconds = time.monotonic() - began
    if loaded != persons.persons:
        raise Failed(f"{loaded} persons imported of {persons.persons}")
    memory.append(resident_megabytes(register.process))
    cluster.wait_for_recount(MAIN)
    cluster.settle(MAIN)
    return (
        f"Imported at first: {loaded:,} persons in {seconds:.1f} s, {loaded / seconds:,.0f}/s; the server's "
        f"memory {memory[0]:.0f} MB before, {memory[len(memory) // 10]:.0f} MB after a tenth, "
        f"{memory[-1]:.0f} MB at the end."
    )


def _run(name: str, bench: Bench, options: argparse.Namespace, report: Report) -> None:
    with report.telling(name), closing(PATHS[name](bench)) as paths:
        for path in paths:
            _say(path.name)
            floors, ours = run_rounds(path, options.rounds)
            memory = resident_megabytes(path.process or bench.register.process)
            report.outcomes.append(Outcome(path, floors, ours, memory))
            if options.profile and path.process:
                file = options.output / f"profile-{path.name}.txt"
                _say(profile(path.process, path.ours, options.seconds, file))
    if name in report.failed:
        servers_said = "".join(log.read_text() for log in sorted(bench.folder.glob("*/log")))
        (options.output / f"failed-{name}.log").write_text(servers_said)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--persons", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run")
    usual = [name for name in PATHS if name != "growth"]
    parser.add_argument("--paths", type=_names, default=usual, help="separated by commas")
    parser.add_argument(
        "--growth", type=_sizes, nargs="?", const=_SIZES, help="sizes to grow to, separated by commas"
    )
    parser.add_argument("--profile", action="store_true", help="tell where the server's time goes")
    parser.add_argument("--output", type=FilePath, default=FilePath(".krr/bench"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PATHS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(PATHS)}")
    return names


def _sizes(text: str) -> list[int]:
    return sorted(int(size) for size in text.split(","))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
