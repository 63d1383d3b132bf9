"""Looking persons up: one by one, by the thousand, and by the thousand in a stream."""

from krr.v1 import register_service_pb2 as pb

from server.store.encoded_reads import LOOK_UP
from tests.bench import closed_loop, goals, h2load
from tests.bench.answers import CALLER
from tests.bench.bench import Bench
from tests.bench.calls import Calls
from tests.bench.machine import cpu_seconds
from tests.bench.processes import Failed, line_from, running
from tests.bench.raw_reads import RawReads
from tests.bench.register import Register
from tests.bench.runs import Measure, Path, Paths, Run, multiple
from tests.e2e.parts import free_port

UNARY = "/krr.v1.RegisterService/LookUpPersons"
_STREAM = "/krr.v1.RegisterService/LookUpPersonsStream"
CLIENTS = 32
_BATCH = 1000
_BATCHES = 200
# Each of two processes has two threads: enough to keep the server at work.
_PROCESSES, _THREADS = 2, 2


def unary(bench: Bench) -> Paths:
    """One person a call, 32 callers, beside bare gRPC that answers as many bytes."""
    request, size = one_person(bench.register, bench.population.identifiers[0])
    port, log = free_port(), bench.folder / "echo.log"
    program = ("-m", "tests.bench.echo", str(port), str(size))
    with running(*program, in_the_servers_place=True, log=log) as echo:
        line_from(echo, log)

        def call(address: str, process: int) -> Run:
            return call_one_by_one(bench, address, process, request, size)

        yield Path(
            "unary",
            [
                Measure("look-up one by one", "calls/s", goal=goals.UNARY),
                Measure(
                    "  99 % within", "ms", lambda run: run.p99 * 1e3, compare=multiple, goal=goals.UNARY_P99
                ),
            ],
            floor=lambda: call(f"127.0.0.1:{port}", echo.pid),
            ours=lambda: call(bench.register.address, bench.register.process),
            process=bench.register.process,
        )


def one_person(register: Register, identifier: str) -> tuple[bytes, int]:
    """The request for one person, and how many bytes the answer has. Raises Failed."""
    request = pb.LookUpPersonsRequest(identifiers=[identifier], purpose=pb.PURPOSE_NOTICE)
    content = request.SerializeToString()
    answer = register.ask(UNARY, content, CALLER)
    if pb.LookUpPersonsResponse.FromString(answer).entries[0].person.identifier != identifier:
        raise Failed("the answer is about somebody else")
    return content, len(answer)


def call_one_by_one(
    bench: Bench, address: str, process: int, request: bytes, answer_size: int, seconds: float | None = None
) -> Run:
    """The same look-up again and again, by h2load.

    seconds: for how long; the bench's where it is not said.
    """
    return h2load.run(
        address,
        UNARY,
        request,
        CALLER,
        clients=CLIENTS,
        seconds=seconds or bench.seconds,
        answer_size=answer_size,
        folder=bench.folder,
        watched={"server": lambda: cpu_seconds(process), "database": bench.cluster.cpu_seconds},
    )


def batch(bench: Bench) -> Paths:
    """A thousand persons a call, chosen at random."""
    yield _by_the_thousand(bench, "batch", "look-up by the thousand", "unary", UNARY)


def stream(bench: Bench) -> Paths:
    """A thousand persons a message, chosen at random."""
    yield _by_the_thousand(bench, "stream", "look-up in a stream", "stream", _STREAM)


def _by_the_thousand(bench: Bench, name: str, title: str, kind: str, method: str) -> Path:
    batches = bench.population.batches(_BATCHES, _BATCH)
    reads = RawReads(
        address=bench.cluster.address(bench.register.database),
        statement=LOOK_UP.sql.encode(),
        parameters=[(f"{{{','.join(batch)}}}",) for batch in batches],
        threads=_PROCESSES * _THREADS,
        seconds=bench.seconds,
    )
    return Path(
        name,
        [Measure(title, "persons/s", goal=goals.LOOK_UPS)],
        floor=lambda: bench.raw_reads(reads),
        ours=lambda: look_up_batches(bench, bench.register, kind, method, batches),
        process=bench.register.process,
    )


def look_up_batches(
    bench: Bench, register: Register, kind: str, method: str, batches: list[list[str]]
) -> Run:
    """Look up the batches over and over again."""
    requests = [
        (CALLER, pb.LookUpPersonsRequest(identifiers=batch, purpose=pb.PURPOSE_NOTICE).SerializeToString())
        for batch in batches
    ]
    plans = [
        Calls(
            kind=kind,
            address=register.address,
            method=method,
            requests=requests[number::_PROCESSES],
            threads=_THREADS,
            seconds=bench.seconds,
            items=len(batches[0]),
        )
        for number in range(_PROCESSES)
    ]
    return closed_loop.run("tests.bench.calls", plans, bench.folder, bench.watched(register))
