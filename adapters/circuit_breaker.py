"""When to stop asking for work because the supplier seems to be away."""


class CircuitBreaker:
    """Says how many pieces of work to lease, by how the latest ones went.

    After `threshold` attempts in a row that failed for now it allows none for `pause`
    seconds, then one at a time, until one succeeds or is refused. Times are of one
    monotonic clock, in seconds. Not safe for use by several threads at once.
    """

    def __init__(self, threshold: int = 5, pause: float = 5.0) -> None:
        self._threshold = threshold
        self._pause = pause
        self._failures = 0
        self._closed_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the supplier seems to be away."""
        return self._failures >= self._threshold

    def allowance(self, now: float, free: int, in_hand: int) -> int:
        """How many pieces of work to lease now.

        free: how many can be begun at once. in_hand: how many are begun and not ended.
        """
        if not self.is_open:
            return free
        # The probe goes alone: one that waits on a slow supplier tells nothing yet.
        return 1 if now >= self._closed_until and in_hand == 0 else 0

    def failed_for_now(self, now: float) -> None:
        """An attempt failed for now."""
        self._failures += 1
        if self.is_open:
            self._closed_until = now + self._pause

    def answered(self) -> None:
        """The supplier answered, with yes or no."""
        self._failures = 0
