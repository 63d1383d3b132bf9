"""How long a piece of work waits before its next attempt."""

# Seconds to wait after the first, second, … failed attempt; the last one holds from there on.
DELAYS = (1.0, 2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)


def delay_after(failed_attempts: int, jitter: float) -> float:
    """Seconds to wait after one more attempt failed.

    failed_attempts: how many attempts had failed before this one.
    jitter: 0 to 1. The wait is between half of the delay and all of it, so that what failed
        together does not come back together.
    """
    delay = DELAYS[min(failed_attempts, len(DELAYS) - 1)]
    return delay * (0.5 + jitter / 2)
