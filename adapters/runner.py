"""Lease, deliver, finish: the same loop for every adapter."""

import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Generic

import grpc
import structlog
from krr_client import RegisterError
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from adapters.adapter import Misconfigured, Refused, TryLater, Unsure
from adapters.backoff import delay_after
from adapters.circuit_breaker import CircuitBreaker
from adapters.late_calls import Unsettled
from adapters.token_bucket import TokenBucket
from adapters.work import Outcome, Piece, Work

_LONGEST_WAIT_FOR_ALLOWANCE = 0.25
_REGISTER_AWAY_SECONDS = 1.0

# The parts of a lease in which an attempt must have begun, and how long it may then take.
_BEGIN_WITHIN = 1 / 3
_LONGEST_ATTEMPT = 2 / 3

# What the register takes as an error code.
_ERROR_CODE = re.compile(r"(?!.*[0-9]{6})[A-Z][A-Z0-9_]{0,63}", re.ASCII)

_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})

_log = structlog.get_logger()
_tracer = trace.get_tracer(__name__)
_TRACE_CONTEXT = TraceContextTextMapPropagator()


class Runner(Generic[Piece]):
    """Does leased work until told to stop, several pieces at once.

    concurrency: how many pieces at once; no more are leased than can be begun.
    least: how many pieces are leased at least while others are in hand.
    breaker, rate: this adapter's own; None for no bound on what is leased in a second.

    A supplier that refuses the adapter itself does not end the run: a process that its
    supervisor starts again at once would ask the supplier without pause.

    Raises ValueError where an attempt could outlast its lease.
    """

    def __init__(
        self,
        work: Work[Piece],
        *,
        concurrency: int = 8,
        least: int = 1,
        breaker: CircuitBreaker | None = None,
        rate: TokenBucket | None = None,
    ) -> None:
        if work.deadline_seconds > work.lease_seconds * _LONGEST_ATTEMPT:
            raise ValueError(
                f"its deadline of {work.deadline_seconds:g} s is more than two thirds of"
                f" KRR_ADAPTER_LEASE_SECONDS, which is {work.lease_seconds:g}"
            )
        self._work: Work[Piece] = work
        self._concurrency = concurrency
        self._least = least
        self._log = _log.bind(adapter=work.adapter, work=work.verb)
        # Guards what follows; notified when a piece ends.
        self._changed = threading.Condition()
        self._breaker = breaker or CircuitBreaker()
        self._rate = rate
        self._in_hand = 0
        self._register_refusal = ""

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set, then end what is in hand and return."""
        with ThreadPoolExecutor(self._concurrency, f"{self._work.verb}-{self._work.adapter}") as pool:
            while not stop.is_set():
                count = self._wait_for_allowance()
                if not count:
                    continue
                lease_begins = time.monotonic()
                try:
                    pieces = self._work.lease(count)
                except RegisterError as error:
                    self._register_refused(error)
                    stop.wait(error.retry_after or _REGISTER_AWAY_SECONDS)
                    continue
                self._register_answered()
                with self._changed:
                    self._in_hand += len(pieces)
                    if self._rate:
                        self._rate.take(len(pieces))
                for piece in pieces:
                    pool.submit(self._begin, piece, lease_begins)
                if not pieces:
                    stop.wait(self._work.idle_seconds)

    def _wait_for_allowance(self) -> int:
        with self._changed:
            free = self._concurrency - self._in_hand
            now = time.monotonic()
            count = self._breaker.allowance(now, free, self._in_hand)
            if self._rate:
                # What is leased is begun at once: a lease must not grow old in a queue.
                count = min(count, self._rate.available(now))
            if self._in_hand and count < self._least:
                # A call to the register costs about as much for one piece as for several.
                count = 0
            if not count:
                self._changed.wait(_LONGEST_WAIT_FOR_ALLOWANCE)
            return count

    def _begin(self, piece: Piece, lease_begins: float) -> None:
        try:
            # The process may have slept since: by now another may hold the lease.
            if time.monotonic() > lease_begins + self._work.lease_seconds * _BEGIN_WITHIN:
                self._log.warning("lease too old to begin", **self._work.attributes(piece))
            else:
                self._do(piece, lease_begins + self._work.lease_seconds)
        except Exception as fault:
            self._log.error("work dropped", exception=type(fault).__name__)
        finally:
            with self._changed:
                self._in_hand -= 1
                self._changed.notify()

    def _do(self, piece: Piece, lease_ends: float) -> None:
        attributes = self._work.attributes(piece)
        with _tracer.start_as_current_span(
            f"{self._work.verb} {self._work.adapter}",
            attributes={"krr.adapter": self._work.adapter, **attributes},
            links=_links_to(self._work.trace_parent(piece)),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            outcome = self._attempt(piece)
            name = _OUTCOME_NAMES.get(type(outcome), "done")
            if isinstance(outcome, TryLater | Refused):
                span.set_attribute("krr.error_code", outcome.error_code)
                self._log.warning(name, error_code=outcome.error_code, **attributes)
            span.set_attribute("krr.outcome", name)
            refusal = self._finish(piece, outcome, lease_ends)
            if refusal:
                span.set_attribute("krr.outcome", "not_recorded")
                self._log.warning("outcome not recorded", reason=refusal, **attributes)

    def _attempt(self, piece: Piece) -> Outcome:
        begun = time.monotonic()
        try:
            outcome = self._work.deliver(piece)
        except Exception as fault:
            # Only the type: the text may hold what was sent.
            self._log.error("adapter fault", exception=type(fault).__name__, **self._work.attributes(piece))
            outcome = self._fault()
        if not isinstance(outcome, self._work.outcomes) or (
            isinstance(outcome, TryLater | Refused) and not _ERROR_CODE.fullmatch(outcome.error_code)
        ):
            self._log.error("adapter gave no outcome", **self._work.attributes(piece))
            outcome = self._fault()
        self._note(outcome, begun)
        return outcome

    def _fault(self) -> TryLater:
        """The outcome of an attempt that gave none. A message may have gone out before."""
        may_be_unsure = Unsure in self._work.outcomes
        return Unsure("ADAPTER_FAULT") if may_be_unsure else TryLater("ADAPTER_FAULT")

    def _note(self, outcome: Outcome, begun: float) -> None:
        """Tell the breaker; log what thereby becomes another."""
        with self._changed:
            breaker, now = self._breaker, time.monotonic()
            was_open, was_misconfigured = breaker.is_open, breaker.is_misconfigured
            if isinstance(outcome, Misconfigured):
                breaker.misconfigured(now)
            elif isinstance(outcome, TryLater) and not isinstance(outcome, Unsettled):
                breaker.failed_for_now(now)
            else:
                breaker.answered(begun)
            is_open, is_misconfigured = breaker.is_open, breaker.is_misconfigured
        if is_misconfigured and not was_misconfigured and isinstance(outcome, Misconfigured):
            self._log.error("adapter misconfigured", error_code=outcome.error_code)
        elif was_misconfigured and not is_misconfigured:
            self._log.warning("adapter works again")
        if was_open != is_open:
            self._log.warning("supplier seems to be away" if is_open else "supplier is back")

    def _finish(self, piece: Piece, outcome: Outcome, lease_ends: float) -> str:
        """Why the register did not record the outcome; empty where it did."""
        delay = 0.0
        if isinstance(outcome, TryLater):
            # It is not the piece that failed with these: it need not wait longer each time.
            failed_attempts = 0 if isinstance(outcome, Misconfigured | Unsettled) else piece.failed_attempts
            delay = max(delay_after(failed_attempts, random.random()), self._work.shortest_delay(outcome))
        while True:
            try:
                self._work.finish(piece, outcome, delay)
            except RegisterError as error:
                if error.status not in _AWAY and error.retry_after is None:
                    return error.reason or error.status.name
                # An outcome that gets lost is work done twice: a second SMS to somebody.
                self._register_refused(error)
                if time.monotonic() + _REGISTER_AWAY_SECONDS > lease_ends:
                    return error.status.name
                time.sleep(_REGISTER_AWAY_SECONDS)
            else:
                self._register_answered()
                return ""

    def _register_refused(self, error: RegisterError) -> None:
        refusal = error.reason or error.status.name
        with self._changed:
            news, self._register_refusal = refusal != self._register_refusal, refusal
        if news:
            self._log.error("register away", status=error.status.name, reason=error.reason)

    def _register_answered(self) -> None:
        with self._changed:
            news, self._register_refusal = bool(self._register_refusal), ""
        if news:
            self._log.info("register is back")


def _links_to(trace_parent: str) -> list[trace.Link]:
    """A link to the call that caused the work; none where that is unknown. Not a parent: the
    work may come hours later, and more than once."""
    found = _TRACE_CONTEXT.extract({"traceparent": trace_parent})
    cause = trace.get_current_span(found).get_span_context()
    return [trace.Link(cause)] if cause.is_valid else []


_OUTCOME_NAMES: dict[type[Outcome], str] = {
    TryLater: "try_later",
    Unsure: "unsure",
    Misconfigured: "misconfigured",
    Unsettled: "unsettled",
    Refused: "refused",
}
