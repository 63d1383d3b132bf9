"""What a look-up costs as the register grows."""

from functools import partial

from krr.v1 import register_service_pb2 as pb

from tests.bench import closed_loop, goals, population
from tests.bench.answers import CALLER
from tests.bench.bench import Bench
from tests.bench.calls import Calls
from tests.bench.feed import read_feed
from tests.bench.look_ups import CLIENTS, UNARY, look_up_batches
from tests.bench.population import Population
from tests.bench.register import Register, serving
from tests.bench.runs import Measure, Path, Paths, Run, growth

_DATABASE = "grown"
_PROCESSES = 2
_LOOKED_UP = 50_000
_BATCHES, _BATCH = 200, 1000


def grow(bench: Bench) -> Paths:
    """The same register at each size, beside the one that does not grow.

    What is compared is CPU time of server and PostgreSQL together: with another person each time,
    the callers may be what limits the rate.
    """
    bench.clone(_DATABASE)
    already = bench.population.persons
    for persons in (size for size in bench.sizes if size > already):
        grown = Population(persons)
        messages = bench.folder / "grown"
        grown.generate(messages, already)
        with serving(bench.cluster, _DATABASE, bench.folder / f"grown-to-{persons}") as register:
            population.load(register, messages)
            messages.unlink()
            bench.cluster.wait_for_recount(_DATABASE)
            bench.cluster.settle(_DATABASE)
            yield from _paths(bench, register, grown)
        already = persons
    bench.cluster.drop(_DATABASE)


def _paths(bench: Bench, register: Register, grown: Population) -> Paths:
    for title, run, goal in (
        ("look-up one by one", _one_by_one, goals.GROWTH),
        ("look-up by the thousand", _by_the_thousand, goals.GROWTH_OF_OTHERS),
        ("feed, catching up", _feed, goals.GROWTH_OF_OTHERS),
    ):
        name = f"{title}, of {grown.persons:,}"
        yield Path(
            name,
            [Measure(name, "µs", _cost, growth, goal)],
            floor=partial(run, bench, bench.register, bench.population),
            ours=partial(run, bench, register, grown),
            plotted=(title, grown.persons),
        )


def _cost(run: Run) -> float:
    return run.cpu_microseconds("server", "database")


def _one_by_one(bench: Bench, register: Register, known: Population) -> Run:
    requests = [
        (CALLER, pb.LookUpPersonsRequest(identifiers=batch, purpose=pb.PURPOSE_NOTICE).SerializeToString())
        for batch in known.batches(_LOOKED_UP, 1)
    ]
    plans = [
        Calls(
            kind="unary",
            address=register.address,
            method=UNARY,
            requests=requests[number::_PROCESSES],
            threads=CLIENTS // _PROCESSES,
            seconds=bench.seconds,
        )
        for number in range(_PROCESSES)
    ]
    return closed_loop.run("tests.bench.calls", plans, bench.folder, bench.watched(register))


def _by_the_thousand(bench: Bench, register: Register, known: Population) -> Run:
    return look_up_batches(bench, register, "unary", UNARY, known.batches(_BATCHES, _BATCH))


def _feed(bench: Bench, register: Register, known: Population) -> Run:
    return read_feed(bench, register, known.persons)
