"""What tracing costs a call, and the check of who calls."""

from collections.abc import Callable

from tests.bench import closed_loop, goals
from tests.bench.access_check import AccessChecks
from tests.bench.answers import CALLER
from tests.bench.bench import Bench
from tests.bench.intercepted_calls import InterceptedCalls
from tests.bench.look_ups import UNARY, call_one_by_one, one_person
from tests.bench.register import MAIN, Register, serving
from tests.bench.runs import Measure, Path, Paths, Run, difference

_AUTHORIZATION, _METHOD = f"Development {CALLER}", UNARY.removeprefix("/")

# Tracing costs less than the machine's speed changes within seconds.
_TURNS = 10


def tracing(bench: Bench) -> Paths:
    """What tracing adds to a call: to one that is not sampled, by what stands around a call alone, since
    it is less than two servers differ by; to one that is, by a server's time for a look-up.

    Both servers are fresh: one that has served long is slower by more than this.
    """

    def intercepted(*, traced: bool) -> Run:
        plan = InterceptedCalls(_AUTHORIZATION, _METHOD, traced=traced, threads=1, seconds=seconds)
        return closed_loop.run("tests.bench.intercepted_calls", [plan], bench.folder, {}, in_place=True)

    def call(register: Register) -> Run:
        return call_one_by_one(bench, register.address, register.process, request, size, seconds)

    def path(name: str, of: str, ours: Callable[[], Run], floor: Callable[[], Run], goal: goals.Goal) -> Path:
        time = Measure(name, "µs a call", lambda run: run.cpu_microseconds(of), difference, goal)
        return Path(name, [time], ours, floor, turns=_TURNS)

    seconds = bench.seconds / _TURNS * 2
    request, size = one_person(bench.register, bench.population.identifiers[0])
    yield path(
        "tracing, no call sampled",
        "caller",
        lambda: intercepted(traced=True),
        lambda: intercepted(traced=False),
        goals.TRACING,
    )
    with (
        serving(bench.cluster, MAIN, bench.folder / "untraced", {"OTEL_SDK_DISABLED": "true"}) as untraced,
        serving(bench.cluster, MAIN, bench.folder / "traced", {}) as traced,
    ):
        yield path(
            "tracing, every call sampled",
            "server",
            lambda: call(traced),
            lambda: call(untraced),
            goals.TRACED,
        )


def access_check(bench: Bench) -> Paths:
    """The check of a credential and of the right to call, by itself."""
    plan = AccessChecks(_AUTHORIZATION, _METHOD, threads=1, seconds=bench.seconds)

    def check() -> Run:
        return closed_loop.run("tests.bench.access_check", [plan], bench.folder, {}, in_place=True)

    per_call = Measure("access check", "µs a call", lambda run: 1e6 / run.rate, goal=goals.ACCESS)
    yield Path("access check", [per_call], ours=check)
