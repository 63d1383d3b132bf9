"""How much work a supplier may be given in a second."""

import math


class TokenBucket:
    """Gives `rate` tokens a second; keeps what is not taken, up to a second's worth or one token.

    Begins full. Times are of one monotonic clock, in seconds. Not safe for use by several
    threads at once.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = max(rate, 1.0)
        self._tokens = self._most
        self._filled_at = -math.inf

    def available(self, now: float) -> int:
        """How many tokens may be taken now."""
        self._tokens = min(self._most, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        return int(self._tokens)

    def take(self, count: int) -> None:
        """Take so many of those that were available."""
        self._tokens -= count
