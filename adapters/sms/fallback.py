"""Several gateways for one message: the next has what the one before it surely did not take."""

import threading
import time
from collections.abc import Mapping
from typing import Protocol

import structlog
from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import MessageGateway, Misconfigured, Refused, Sent, TryLater, Unsure
from adapters.circuit_breaker import CircuitBreaker

_log = structlog.get_logger()


class BoundedGateway(MessageGateway, Protocol):
    """A gateway that says how long an attempt takes at most."""

    deadline_seconds: float


class Fallback:
    """Asks the gateways in order, each with a circuit breaker of its own; one that is open is passed over.

    A message that may have been taken goes to no other, nor one that was refused for good: another
    would refuse it too. Where none took it, the outcome is of the first that is not misconfigured.

    probe_seconds: how long a gateway that refuses us is left in peace.
    """

    def __init__(self, gateways: Mapping[str, BoundedGateway], probe_seconds: float) -> None:
        self._gateways = [_Guarded(name, gateway, probe_seconds) for name, gateway in gateways.items()]
        self.deadline_seconds = sum(gateway.deadline_seconds for gateway in gateways.values())

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over to the first gateway that takes it."""
        failed: list[TryLater] = []
        for gateway in self._gateways:
            outcome = gateway.send(message)
            if not isinstance(outcome, TryLater) or isinstance(outcome, Unsure) or outcome.wait_seconds:
                return outcome
            failed.append(outcome)
        return next((each for each in failed if not isinstance(each, Misconfigured)), failed[0])


class _Guarded:
    """One gateway behind its breaker."""

    def __init__(self, name: str, gateway: MessageGateway, probe_seconds: float) -> None:
        self._name = name
        self._gateway = gateway
        # Guards what follows.
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker(long_pause=probe_seconds)
        self._in_hand = 0
        self._latest = TryLater("UNREACHABLE")

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """What the gateway says; what it said last where it is to be left in peace."""
        begun = time.monotonic()
        with self._lock:
            if not self._breaker.allowance(begun, 1, self._in_hand):
                return self._latest
            self._in_hand += 1
        outcome: Sent | TryLater | Refused = Unsure("ADAPTER_FAULT")
        try:
            outcome = self._gateway.send(message)
        finally:
            with self._lock:
                self._in_hand -= 1
                self._note(outcome, begun)
        return outcome

    def _note(self, outcome: Sent | TryLater | Refused, begun: float) -> None:
        breaker, now = self._breaker, time.monotonic()
        was_open, was_misconfigured = breaker.is_open, breaker.is_misconfigured
        if isinstance(outcome, Misconfigured):
            breaker.misconfigured(now)
        elif isinstance(outcome, TryLater):
            breaker.failed_for_now(now)
        else:
            breaker.answered(begun)
        if isinstance(outcome, TryLater):
            # Of the message that is passed over it is known that nobody took it.
            is_misconfigured = isinstance(outcome, Misconfigured)
            self._latest = outcome if is_misconfigured else TryLater(outcome.error_code)
        if breaker.is_misconfigured and not was_misconfigured:
            _log.error("gateway misconfigured", gateway=self._name, error_code=self._latest.error_code)
        elif was_misconfigured and not breaker.is_misconfigured:
            _log.warning("gateway works again", gateway=self._name)
        if was_open != breaker.is_open:
            _log.warning("gateway is back" if was_open else "gateway seems to be away", gateway=self._name)
