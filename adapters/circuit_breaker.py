"""When to stop asking for work because the supplier seems to be away, or refuses the adapter itself."""


class CircuitBreaker:
    """Says how many pieces of work to lease, by how the latest ones went.

    After `threshold` attempts in a row that failed for now it allows none for `pause`
    seconds, then one at a time, until one succeeds or is refused. After one that the supplier
    refused because of the adapter it does so at once, with `long_pause` for the pause. Times
    are of one monotonic clock, in seconds. Not safe for use by several threads at once.
    """

    def __init__(self, threshold: int = 5, pause: float = 5.0, long_pause: float = 300.0) -> None:
        self._threshold = threshold
        self._pause = pause
        self._long_pause = long_pause
        self._failures = 0
        self._closed_until = 0.0
        self._misconfigured_at: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the supplier seems to be away."""
        return self._failures >= self._threshold

    @property
    def is_misconfigured(self) -> bool:
        """Whether the supplier refuses the adapter itself, as far as is known."""
        return self._misconfigured_at is not None

    def allowance(self, now: float, free: int, in_hand: int) -> int:
        """How many pieces of work to lease now.

        free: how many can be begun at once. in_hand: how many are begun and not ended.
        """
        if not self.is_open and not self.is_misconfigured:
            return free
        # The probe goes alone: one that waits on a slow supplier tells nothing yet.
        return 1 if now >= self._closed_until and in_hand == 0 else 0

    def failed_for_now(self, now: float) -> None:
        """An attempt failed for now."""
        self._failures += 1
        if self.is_misconfigured:
            # Whether it is put right, this attempt did not tell.
            self._closed_until = now + self._long_pause
        elif self.is_open:
            self._closed_until = now + self._pause

    def misconfigured(self, now: float) -> None:
        """The supplier refused the adapter itself."""
        self._misconfigured_at = now
        self._closed_until = now + self._long_pause

    def answered(self, begun: float) -> None:
        """The supplier answered, with yes or no, an attempt begun then."""
        self._failures = 0
        # One that was in hand when another was refused does not say that it is put right.
        if self._misconfigured_at is not None and begun > self._misconfigured_at:
            self._misconfigured_at = None
