"""What cuts a stream off, and how long to wait before the next."""

import random
import threading
from typing import Any

import grpc

from krr_client.errors import BrokenAnswer, RegisterError

_SHORTEST_DELAY = 0.2

# The server, or the way to it, is away for a while. CANCELLED: by a proxy, or by us.
_AWAY = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})
# Without a reason of the register's they come from the transport: a reset stream, say.
_AWAY_WITHOUT_REASON = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


def is_cut(error: RegisterError) -> bool:
    """Whether the same call may well succeed later."""
    if isinstance(error, BrokenAnswer):
        return False
    return (
        error.status in _AWAY
        or (error.status in _AWAY_WITHOUT_REASON and not error.reason)
        or error.retry_after is not None
        or error.reason == "TOO_MANY_STREAMS"
    )


def delay_after(failures: int, error: RegisterError, longest: float) -> float:
    """Seconds to wait after so many failures in a row (from 1 on), the last of them `error`."""
    backoff = min(longest, _SHORTEST_DELAY * 2.0 ** min(failures - 1, 30))
    return max(backoff * random.uniform(0.5, 1), error.retry_after or 0.0)


def next_response(call: Any, silence: float) -> Any:
    """The next response of the stream. Cancels it where none comes for `silence` seconds.

    Raises RegisterError however the stream ends: UNAVAILABLE where it ended OK,
    DEADLINE_EXCEEDED where it was silent.
    """
    was_silent = threading.Event()

    def cut() -> None:
        was_silent.set()
        call.cancel()

    watchdog = threading.Timer(silence, cut)
    watchdog.daemon = True
    watchdog.start()
    try:
        return next(call)
    except StopIteration:
        raise RegisterError(grpc.StatusCode.UNAVAILABLE, "the stream ended early") from None
    except RegisterError:
        if not was_silent.is_set():
            raise
        raise RegisterError(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"nothing was heard for {silence:g} s"
        ) from None
    finally:
        watchdog.cancel()
