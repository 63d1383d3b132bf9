"""How long a commit takes to reach those who watch. Reported, not asserted."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from krr.v1 import citizen_service_pb2

from tests.people import register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.process import serving
from tests.server.rpcs import Rpcs
from tests.server.valid_requests import LOG_IN_SERVICE, PUBLIC

COMMITS_A_SECOND = 30

# Beside the server and the writer, so that neither's figures hold the time it takes to read.
WATCHERS = """
import json, sys, threading, time, grpc
from krr.v1 import register_service_pb2 as pb, register_service_pb2_grpc
channel = grpc.insecure_channel(sys.argv[1])
stub = register_service_pb2_grpc.RegisterServiceStub(channel)
credential = (("authorization", "Development " + sys.argv[2]),)
came, ready = [], threading.Barrier(int(sys.argv[3]) + 1)
def watch():
    call = stub.WatchChanges(pb.WatchChangesRequest(), metadata=credential)
    while not next(call).caught_up:
        pass
    ready.wait()
    try:
        for page in call:
            now = time.monotonic()
            came.extend((person.change_number, now) for person in page.persons)
    except grpc.RpcError:
        pass
for _ in range(int(sys.argv[3])):
    threading.Thread(target=watch, daemon=True).start()
ready.wait()
print("watching", flush=True)
sys.stdin.readline()
print(json.dumps({"came": list(came), "cpu": time.process_time()}))
"""


def cpu_seconds(process: int) -> float:
    """What the process has used, its threads included."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def centiles(seconds: list[float]) -> str:
    """p50, p99 and the most, in milliseconds."""
    ordered = sorted(seconds)
    found = (ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])
    return "p50 {:.1f}, p99 {:.1f}, most {:.1f} ms".format(*(each * 1000 for each in found))


@pytest.mark.full_size_figures
def test_every_commit_reaches_every_watcher_and_it_is_told_how_soon(
    database_url: str, tmp_path: Path, full_size: bool
) -> None:
    watchers, seconds = (100, 30) if full_size else (10, 3)
    persons = list(islice(people(), 200))
    asked: dict[int, float] = {}
    answered: dict[int, float] = {}
    with serving(tmp_path, database_url, test_accept_unsafe_postgresql="true") as server:
        rpcs = Rpcs(server.address)
        for number, person in enumerate(persons):
            request = register_request(person, f"person{number}@example.com", f"+479{number:07}")
            rpcs.call("CitizenService/RegisterPerson", request, LOG_IN_SERVICE)
        command = [sys.executable, "-c", WATCHERS, server.address, PUBLIC, str(watchers // 2)]
        clients = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for client in clients:
            assert client.stdout
            assert client.stdout.readline() == "watching\n"

        def confirm(person: str, at: float) -> None:
            time.sleep(max(0.0, at - time.monotonic()))
            request = citizen_service_pb2.ConfirmContactRequest(request_id=request_id(), identifier=person)
            began = time.monotonic()
            response = rpcs.call("CitizenService/ConfirmContact", request, f"citizen/{person}").response
            asked[response.answer.change_number] = began
            answered[response.answer.change_number] = time.monotonic()

        cpu, began = cpu_seconds(server.process.pid), time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            writes = [
                pool.submit(confirm, persons[number % len(persons)], began + number / COMMITS_A_SECOND)
                for number in range(COMMITS_A_SECOND * seconds)
            ]
            for write in writes:
                write.result()
        took, cpu = time.monotonic() - began, cpu_seconds(server.process.pid) - cpu
        time.sleep(1)
        told = [json.loads(client.communicate("\n", timeout=20)[0]) for client in clients]
        rpcs.close()

    came = [(number, at) for each in told for number, at in each["came"]]
    seen = dict.fromkeys(answered, 0)
    for number, _ in came:
        seen[number] += 1
    assert set(seen.values()) == {watchers}
    print(
        f"{watchers} watchers, {len(answered) / took:.0f} commits/s for {took:.0f} s: "
        f"from the write's answer {centiles([at - answered[number] for number, at in came])}; "
        f"from its call {centiles([at - asked[number] for number, at in came])}; "
        f"CPU of the server {cpu / took * 100:.0f} %, "
        f"of the watchers {sum(each['cpu'] for each in told) / took * 100:.0f} %, "
        f"load {os.getloadavg()[0]:.1f}"
    )
