"""Calls of the register, each made when the last is answered; answers are dropped undecoded.

python -m tests.bench.calls PLAN
"""

import itertools
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from krr.v1 import delivery_service_pb2 as pb

from tests.bench import closed_loop

_TIMEOUT = 20.0
_LEASED_AT_ONCE = 10
# A connection for each thread, as callers on machines of their own have.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 * 1024 * 1024)]

# Who calls, and the request in bytes.
Request = tuple[str, bytes]


@dataclass(frozen=True)
class Calls:
    """A plan: which calls to make.

    kind: a name in _KINDS.
    requests: made over and over again, unless each_once; then there must be enough of them.
    items: what one answer counts for.
    answers: of "watch", after how many to begin again.
    """

    kind: str
    address: str
    method: str
    requests: Sequence[Request]
    threads: int
    seconds: float
    each_once: bool = False
    items: int = 1
    answers: int = 0


def _prepare(plan: Calls) -> Callable[[], Callable[[], int]]:
    requests = iter(plan.requests) if plan.each_once else itertools.cycle(plan.requests)
    kind = _KINDS[plan.kind]
    return lambda: kind(plan, grpc.insecure_channel(plan.address, options=_OPTIONS), requests)


def _unary(plan: Calls, channel: grpc.Channel, requests: Iterator[Request]) -> Callable[[], int]:
    call: Any = channel.unary_unary(plan.method)

    def once() -> int:
        caller, request = next(requests)
        call(request, metadata=_credential(caller), timeout=_TIMEOUT)
        return plan.items

    return once


def _stream(plan: Calls, channel: grpc.Channel, requests: Iterator[Request]) -> Callable[[], int]:
    """One stream, with the next request under way while the last is answered."""
    call: Any = channel.stream_stream(plan.method)
    to_ask: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    caller, request = next(requests)
    to_ask.put(request)
    answers = call(iter(to_ask.get, None), metadata=_credential(caller))

    def once() -> int:
        to_ask.put(next(requests)[1])
        next(answers)
        return plan.items

    return once


def _watch(plan: Calls, channel: grpc.Channel, requests: Iterator[Request]) -> Callable[[], int]:
    """A watch from the start of the feed; begun anew when it has come to its end."""
    call: Any = channel.unary_stream(plan.method)
    caller, request = next(requests)
    pages: Any = None
    left = 0

    def once() -> int:
        nonlocal pages, left
        if not left:
            if pages:
                pages.cancel()
            pages, left = call(request, metadata=_credential(caller)), plan.answers
        next(pages)
        left -= 1
        return plan.items

    return once


def _deliver(plan: Calls, channel: grpc.Channel, requests: Iterator[Request]) -> Callable[[], int]:
    """What an adapter asks of the register, without the supplier in between."""
    lease: Any = channel.unary_unary(
        "/krr.v1.DeliveryService/LeaseDeliveries", response_deserializer=pb.LeaseDeliveriesResponse.FromString
    )
    finish: Any = channel.unary_unary("/krr.v1.DeliveryService/FinishDelivery")
    to_lease = pb.LeaseDeliveriesRequest(
        max_deliveries=_LEASED_AT_ONCE, lease_duration=Duration(seconds=60)
    ).SerializeToString()
    credential = _credential(next(requests)[0])
    leased: list[pb.Delivery] = []

    def once() -> int:
        if not leased:
            leased.extend(lease(to_lease, metadata=credential, timeout=_TIMEOUT).deliveries)
            if not leased:
                raise RuntimeError("the deliveries ran out: take more persons or less time")
        delivery = leased.pop()
        done = pb.FinishDeliveryRequest(
            delivery_id=delivery.delivery_id, lease_token=delivery.lease_token, done=pb.DeliveryDone()
        )
        finish(done.SerializeToString(), metadata=credential, timeout=_TIMEOUT)
        return 1

    return once


def _credential(caller: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Development {caller}"),)


_KINDS = {"unary": _unary, "stream": _stream, "watch": _watch, "deliver": _deliver}

if __name__ == "__main__":
    closed_loop.drive(_prepare)
