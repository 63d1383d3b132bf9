"""Many who watch the feed, and when each change came to each.

python -m tests.bench.watchers ADDRESS CALLER CURSOR COUNT
"""

import json
import sys
import threading
import time
from typing import Any

import grpc
from krr.v1 import register_service_pb2 as pb

_SECONDS_TO_ARRIVE = 20.0


def main() -> None:
    address, caller, cursor, count = sys.argv[1:]
    channel = grpc.insecure_channel(address)
    call: Any = channel.unary_stream(
        "/krr.v1.RegisterService/WatchChanges", response_deserializer=pb.WatchChangesResponse.FromString
    )
    request = pb.WatchChangesRequest(after_cursor=cursor).SerializeToString()
    came: list[tuple[int, float]] = []
    ready = threading.Barrier(int(count) + 1)

    def watch() -> None:
        pages = call(request, metadata=(("authorization", f"Development {caller}"),))
        next(pages)
        ready.wait()
        try:
            for page in pages:
                now = time.monotonic()
                came.extend((person.change_number, now) for person in page.persons)
        except grpc.RpcError:
            return

    for _ in range(int(count)):
        threading.Thread(target=watch, daemon=True).start()
    ready.wait()
    _print("watching")
    expected = int(sys.stdin.readline() or 0) * int(count)
    ends = time.monotonic() + _SECONDS_TO_ARRIVE
    while len(came) < expected and time.monotonic() < ends:
        time.sleep(0.05)
    _print(json.dumps(came))
    channel.close()


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


main()
