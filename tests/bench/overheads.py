"""What tracing costs a call, and the check of who calls."""

from tests.bench import closed_loop, goals
from tests.bench.access_check import AccessChecks
from tests.bench.answers import CALLER
from tests.bench.bench import Bench
from tests.bench.look_ups import UNARY, call_one_by_one, one_person
from tests.bench.register import MAIN, Register, serving
from tests.bench.runs import Measure, Path, Paths, Run, difference

# Tracing costs less than the machine's speed changes within seconds.
_TURNS = 10


def tracing(bench: Bench) -> Paths:
    """The server's time for a look-up without tracing, and with it: for no call, and for every one.

    Each by a server as fresh as the others: one that has served long is slower by more than this.
    """
    request, size = one_person(bench.register, bench.population.identifiers[0])

    def call(register: Register) -> Run:
        seconds = bench.seconds / _TURNS * 2
        return call_one_by_one(bench, register.address, register.process, request, size, seconds)

    def path(register: Register, title: str, goal: goals.Goal) -> Path:
        time = Measure(title, "µs a call", lambda run: run.cpu_microseconds("server"), difference, goal)
        return Path(title, [time], lambda: call(register), lambda: call(untraced), turns=_TURNS)

    untraced_settings = {"OTEL_SDK_DISABLED": "true"}
    with serving(bench.cluster, MAIN, bench.folder / "untraced", untraced_settings) as untraced:
        with serving(bench.cluster, MAIN, bench.folder / "unsampled") as unsampled:
            yield path(unsampled, "tracing, no call sampled", goals.TRACING)
        with serving(bench.cluster, MAIN, bench.folder / "traced", {}) as traced:
            yield path(traced, "tracing, every call sampled", goals.TRACED)


def access_check(bench: Bench) -> Paths:
    """The check of a credential and of the right to call, by itself."""
    plan = AccessChecks(f"Development {CALLER}", UNARY.removeprefix("/"), threads=1, seconds=bench.seconds)

    def check() -> Run:
        return closed_loop.run("tests.bench.access_check", [plan], bench.folder, {}, in_place=True)

    per_call = Measure("access check", "µs a call", lambda run: 1e6 / run.rate, goal=goals.ACCESS)
    yield Path("access check", [per_call], ours=check)
