"""What to make of a call that was given up and may still take effect at the operator."""

import threading
import time
from dataclasses import dataclass
from itertools import takewhile

from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import Done, MailboxAdapter, Refused, TryLater

# The supplier cannot have got these.
_NOT_SENT = {"UNREACHABLE", "OUT_OF_TIME"}


@dataclass(frozen=True)
class Unsettled(TryLater):
    """The operator's side is as asked for, but an earlier call that asked for the opposite may come late.

    settled_in: seconds until it can no more, as far as is assumed.
    """

    error_code: str = "EARLIER_CALL_UNSETTLED"
    settled_in: float = 0.0


class LateCalls:
    """Delivers through an adapter, and does not call done what an earlier call may undo.

    seconds: for how long after its end an attempt that failed for now may take effect; likewise
        one that never ended, its process killed, from when its delivery is leased again.

    What failed for now is kept in memory: a process that is killed before it has settled takes
    that knowledge along.

    Safe for use by several threads.
    """

    def __init__(self, adapter: MailboxAdapter, seconds: float) -> None:
        self._adapter = adapter
        self._seconds = seconds
        self._lock = threading.Lock()
        # When each settles, by person and wish; oldest first.
        self._settled_at: dict[tuple[str, bool], float] = {}

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """See MailboxAdapter. Raises what the adapter raises."""
        wish = (delivery.identifier, delivery.receives_public_mail)
        if delivery.earlier_lease_ran_out:
            # Whose wish that attempt brought, this one or the opposite, is not known.
            for receives in (True, False):
                self._may_come_late((delivery.identifier, receives))
        if delivery.HasField("open_account"):
            # Opening an account switches nothing, so it undoes nothing and nothing undoes it.
            return self._adapter.deliver(delivery)
        try:
            outcome = self._adapter.deliver(delivery)
        except Exception:
            self._may_come_late(wish)
            raise
        if isinstance(outcome, TryLater) and outcome.error_code not in _NOT_SENT:
            self._may_come_late(wish)
        elif isinstance(outcome, Done):
            opposite = (delivery.identifier, not delivery.receives_public_mail)
            with self._lock:
                settled_in = self._settled_at.get(opposite, 0.0) - time.monotonic()
            if settled_in > 0:
                return Unsettled(settled_in=settled_in)
        return outcome

    def _may_come_late(self, wish: tuple[str, bool]) -> None:
        now = time.monotonic()
        with self._lock:
            # Else what was renewed would keep its place before what settles earlier.
            self._settled_at.pop(wish, None)
            self._settled_at[wish] = now + self._seconds
            for settled in list(takewhile(lambda each: self._settled_at[each] <= now, self._settled_at)):
                del self._settled_at[settled]
