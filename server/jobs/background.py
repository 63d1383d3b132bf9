"""How the register's jobs run beside its calls."""

import threading
import time
from collections.abc import Callable

import structlog

_STEP_SECONDS = 10.0

_log = structlog.get_logger()


class Background:
    """Runs a job from start() to end(), step by step, on a thread of its own: at once while there
    is work, else every `idle_seconds`.

    step: takes its deadline, on time.monotonic(), and returns whether there may be more to do at
        once. What it raises is logged, and it is run again.
    """

    def __init__(self, name: str, step: Callable[[float], bool], *, idle_seconds: float) -> None:
        self._name = name
        self._step = step
        self._idle_seconds = idle_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name=name, daemon=True)

    def start(self) -> None:
        """Go on in the background."""
        self._thread.start()

    def end(self) -> None:
        """Begin no other step; what is left to do waits for the next start."""
        self._ended.set()
        # One that hangs with the database is left to end with the process.
        self._thread.join(timeout=1)

    def _go_on(self) -> None:
        while not self._ended.is_set():
            try:
                more = self._step(time.monotonic() + _STEP_SECONDS)
            except Exception as fault:
                # Only the type, as everywhere; nothing was done, so it is done the next time.
                _log.warning("step_failed", job=self._name, exception=type(fault).__name__)
                more = False
            if not more:
                self._ended.wait(self._idle_seconds)
