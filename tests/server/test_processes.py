"""`python -m server --processes N`: several processes on one port, as one server to all around it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import citizen_service_pb2, person_pb2, register_service_pb2

from server.processes import held_port
from server.witness import Witness
from tests.open_folder import open_folder
from tests.people import KARI, register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.database import connect
from tests.server.process import Postgres, ServerProcess, environment, run, serving
from tests.server.rpcs import Outcome, Rpcs
from tests.server.valid_requests import LOG_IN_SERVICE, PUBLIC
from tests.server.watching import wait_until

CORES = sorted(os.sched_getaffinity(0))


class OwnConnection(Rpcs):
    """Calls on a connection that no other channel shares."""

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(
            self.address,
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)],
        )


@pytest.fixture(scope="module")
def durable() -> Iterator[Postgres]:
    with open_folder() as folder:
        postgres = Postgres(folder / "postgres")
        assert run(folder, "migrate", database_url=postgres.url).returncode == 0
        yield postgres
        postgres.end()


@pytest.fixture(scope="module")
def pair(durable: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Two processes; who kills one has to see it back."""
    with serving(tmp_path_factory.mktemp("pair"), durable.url, processes="2") as server:
        yield server


def children(process: int) -> list[int]:
    """Its child processes, the oldest first."""
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def cores_of(process: int) -> set[tuple[int, ...]]:
    """What cores each of its threads may use."""
    threads = [int(each.name) for each in Path(f"/proc/{process}/task").iterdir()]
    return {tuple(sorted(os.sched_getaffinity(thread))) for thread in threads}


def lives(process: int) -> bool:
    """Whether it runs; one that ended and that nobody has asked about yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def look_up(rpcs: Rpcs) -> Outcome:
    request = register_service_pb2.LookUpPersonsRequest(
        identifiers=[KARI], purpose=register_service_pb2.PURPOSE_NOTICE
    )
    return rpcs.call("RegisterService/LookUpPersons", request, PUBLIC, timeout=5)


def is_free(address: str) -> bool:
    """Whether servers may begin to listen there."""
    try:
        with held_port(address):
            return True
    except OSError:
        return False


@contextmanager
def own_connections(address: str, count: int) -> Iterator[list[Rpcs]]:
    with ExitStack() as stack:
        rpcs: list[Rpcs] = [OwnConnection(address) for _ in range(count)]
        for each in rpcs:
            stack.callback(each.close)
        yield rpcs


def test_connections_are_spread_over_the_processes(pair: ServerProcess) -> None:
    traces = [pair.spans.with_name(f"server-{number}.jsonl") for number in (1, 2)]

    def both_have_answered() -> bool:
        with own_connections(pair.address, 2) as rpcs:
            assert {look_up(each).code for each in rpcs} == {StatusCode.OK}
        return all("RegisterService/LookUpPersons" in file.read_text() for file in traces)

    wait_until(both_have_answered, 10, "both have answered")
    assert not pair.spans.exists()
    assert all('"service.name": "server"' in file.read_text() for file in traces)


def test_each_is_pinned_to_a_core_of_its_own_with_all_its_threads(pair: ServerProcess) -> None:
    first, second = children(pair.process.pid)

    assert cores_of(first) == {(CORES[0],)}
    assert cores_of(second) == {(CORES[1 % len(CORES)],)}
    assert cores_of(pair.process.pid) == {tuple(CORES)}


@pytest.mark.parametrize("settings", [{}, {"processes": "2"}])
def test_no_other_server_gets_onto_their_port(
    pair: ServerProcess, durable: Postgres, tmp_path: Path, settings: dict[str, str]
) -> None:
    ended = run(tmp_path, database_url=durable.url, listen=pair.address, **settings)

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"cannot listen on {pair.address}: is another server there?"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"])
def test_a_port_is_held_from_others_also_while_no_child_listens(host: str) -> None:
    with held_port(f"{host}:0") as (address, port):
        assert address == f"{host}:{port}"
        with pytest.raises(OSError, match="is another server there"), held_port(address):
            pass
        # As gRPC listens, in a server of its own and in a child.
        codes = {}
        for shares in (0, 1):
            server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", shares)])
            try:
                codes[shares] = server.add_insecure_port(address)
            except RuntimeError:
                codes[shares] = 0
            server.start()
            server.stop(None).wait()
    assert codes == {0: 0, 1: port}
    wait_until(lambda: is_free(address), 5, "it is free")


@pytest.mark.parametrize(
    "listen", ["127.0.0.1", "127.0.0.1:http", "127.0.0.1:70000", "unix:/krr", "no.such.host.example:1"]
)
def test_what_is_no_host_and_port_is_refused_in_one_line(listen: str) -> None:
    with pytest.raises(OSError, match=f"^cannot listen on {listen}: "), held_port(listen):
        pass


def test_a_port_where_somebody_listens_is_not_to_be_had() -> None:
    for shares in (0, 1):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            assert not is_free(f"127.0.0.1:{taken.getsockname()[1]}")


def test_writes_through_both_at_once_are_as_if_one_served_them(
    pair: ServerProcess, durable: Postgres
) -> None:
    persons, callers = list(islice(people(), 40)), 8

    def write(rpcs: Rpcs, own: list[str]) -> list[int]:
        """Register the own ones, and reserve or cancel for the one that all write to."""
        answers = []
        for number, person in enumerate(own):
            answers.append(
                rpcs.call("CitizenService/RegisterPerson", register_request(person), LOG_IN_SERVICE)
            )
            verb = ("Reserve", "CancelReservation")[number % 2]
            request = getattr(citizen_service_pb2, f"{verb}Request")(
                request_id=request_id(), identifier=persons[0]
            )
            answers.append(rpcs.call(f"CitizenService/{verb}", request, f"citizen/{persons[0]}"))
        assert {answer.code for answer in answers} == {StatusCode.OK}
        return [
            answer.response.answer.change_number
            for answer in answers
            if answer.response.answer.result == person_pb2.WRITE_RESULT_CHANGED
        ]

    with own_connections(pair.address, callers) as rpcs, ThreadPoolExecutor(callers) as pool:
        rpcs[0].call("CitizenService/RegisterPerson", register_request(persons[0]), LOG_IN_SERVICE)
        writing = [pool.submit(write, each, persons[1 + n :: callers]) for n, each in enumerate(rpcs)]
        numbers = [number for each in writing for number in each.result()]
        feeds = [
            each.call(
                "RegisterService/ListChanges", register_service_pb2.ListChangesRequest(), PUBLIC
            ).response
            for each in rpcs
        ]

    assert len(numbers) == len(set(numbers)) > len(persons)
    assert all({person.identifier for person in feed.persons} >= set(persons) for feed in feeds)
    with connect(durable.url) as connection:
        [(last, highest, all_numbers, different)] = connection.execute(
            "SELECT (SELECT last_change_number FROM register),"
            " max(change_number), count(*), count(DISTINCT change_number) FROM person"
        ).fetchall()
    assert (highest, different) == (last, all_numbers)


def test_one_that_is_killed_is_back_and_its_callers_go_on(pair: ServerProcess) -> None:
    before = children(pair.process.pid)
    with own_connections(pair.address, 8) as rpcs:
        assert {look_up(each).code for each in rpcs} == {StatusCode.OK}
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: all(look_up(each).code is StatusCode.OK for each in rpcs), 10, "all are answered")

    wait_until(lambda: pair.log.read_text().count('"process_serving"') == 3, 20, "it is back")
    _, back = children(pair.process.pid)
    assert back not in before
    assert cores_of(back) == {(CORES[0],)}


def test_sigterm_drains_all_and_the_witness_knows_the_last_number(database_url: str, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    persons = list(islice(people(), 2000))
    enough = threading.Event()

    def register(rpcs: Rpcs, share: list[str]) -> set[StatusCode]:
        seen = set()
        for person in share:
            outcome = rpcs.call("CitizenService/RegisterPerson", register_request(person), LOG_IN_SERVICE)
            seen.add(outcome.code)
            if outcome.code is not StatusCode.OK:
                break
            acknowledged.append(person)
            if len(acknowledged) > 50:
                enough.set()
        return seen

    with serving(tmp_path, database_url, processes="2", test_accept_unsafe_postgresql="true") as server:
        with own_connections(server.address, 8) as rpcs, ThreadPoolExecutor(8) as pool:
            writers = [pool.submit(register, each, persons[n::8]) for n, each in enumerate(rpcs)]
            assert enough.wait(20)
            server.ask_to_end()
            server.ask_to_end()
            assert server.process.wait(timeout=20) == 0
            seen = set().union(*(writer.result() for writer in writers))
        assert server.log.read_text().count('"ended"') == 2

    assert seen <= {StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.CANCELLED}
    with connect(database_url) as connection:
        rows = connection.execute("SELECT identifier FROM person WHERE status = 'ACTIVE'").fetchall()
        [(last,)] = connection.execute("SELECT last_change_number FROM register").fetchall()
    assert set(acknowledged) <= {row[0] for row in rows}
    witnessed = Witness(tmp_path / "witness").read()
    assert witnessed is not None
    assert witnessed.last_change_number == last


def test_sigterm_while_they_start_ends_all(durable: Postgres, tmp_path: Path) -> None:
    settings = {"database_url": durable.url, "listen": "127.0.0.1:0", "trace_directory": str(tmp_path)}
    starting = subprocess.Popen(
        [sys.executable, "-m", "server", "--processes", "2"],
        env=environment(**settings, witness_file=str(tmp_path / "witness")),
    )
    try:
        wait_until(lambda: len(children(starting.pid)) == 1, 20, "the first is starting")
        child = children(starting.pid)[0]
        starting.send_signal(signal.SIGTERM)

        assert starting.wait(timeout=20) == 0
        assert not lives(child)
    finally:
        starting.kill()
        starting.wait()


def test_none_outlives_a_parent_that_is_killed(durable: Postgres, tmp_path: Path) -> None:
    with serving(tmp_path, durable.url, processes="2") as server:
        orphans = children(server.process.pid)
        server.process.kill()
        server.process.wait()

        wait_until(lambda: not any(lives(each) for each in orphans), 5, "they have ended")
        wait_until(lambda: is_free(server.address), 5, "their port is free")


def test_one_that_can_serve_no_longer_ends_all(database_url: str, tmp_path: Path) -> None:
    with (
        serving(tmp_path, database_url, processes="2", test_accept_unsafe_postgresql="true") as server,
        connect(database_url) as connection,
    ):
        # As a decision for a new epoch, made on another machine.
        connection.execute("UPDATE register SET epoch = gen_random_uuid()")

        assert server.process.wait(timeout=20) == 1
        assert "The database is another one than before" in server.log.read_text()


def test_processes_beyond_the_cores_share_them_and_the_log_says_so(durable: Postgres, tmp_path: Path) -> None:
    with on_core(CORES[-1]), serving(tmp_path, durable.url, processes="2") as server:
        assert [cores_of(each) for each in children(server.process.pid)] == [{(CORES[-1],)}] * 2
        assert '"processes": 2, "cores": 1, "event": "more_processes_than_cores"' in server.log.read_text()
        assert server.end() == 0


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started meanwhile may use this core only."""
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, set(CORES))


def test_one_process_is_pinned_and_has_no_parent(durable: Postgres, tmp_path: Path) -> None:
    with serving(tmp_path, durable.url, processes="1") as server:
        assert not children(server.process.pid)
        assert cores_of(server.process.pid) == {(CORES[0],)}
        assert server.spans.exists()
        assert server.end() == 0


def test_without_the_setting_nothing_is_pinned(durable: Postgres, tmp_path: Path) -> None:
    with serving(tmp_path, durable.url) as server:
        assert not children(server.process.pid)
        assert cores_of(server.process.pid) == {tuple(CORES)}


@pytest.mark.parametrize("processes", ["0", "two"])
def test_a_number_of_processes_that_cannot_be_is_refused_and_the_option_wins(
    tmp_path: Path, processes: str
) -> None:
    ended = run(tmp_path, "--processes", processes, database_url="postgresql://krr", processes="2")

    assert ended.returncode == 1
    assert ended.stderr.startswith("KRR_PROCESSES: Input should be")
    assert ended.stderr.count("\n") == 1


def test_what_all_refuse_is_said_once(database_url: str, tmp_path: Path) -> None:
    ended = run(tmp_path, database_url=database_url, listen="127.0.0.1:0", processes="2")

    assert ended.returncode == 1
    assert ended.stderr == (
        "PostgreSQL runs with fsync = off and may forget acknowledged writes: set fsync = on.\n"
    )
