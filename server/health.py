"""Health: SERVING while the database answers, told by grpc.health.v1 to anyone who asks."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse

from server.store.store import Store

# Together below 2 seconds: for no longer is the health wrong.
_ASK_EVERY_SECONDS = 0.3
_ANSWER_GOOD_FOR_SECONDS = 1.3


class Health(HealthServicer):
    """Answers on a thread of its own, also while every worker hangs with the database."""

    def __init__(self) -> None:
        super().__init__()
        pool = ThreadPoolExecutor(1, thread_name_prefix="health")
        # Where gRPC looks for them; on the methods themselves, all servers would share them.
        check: Any = partial(HealthServicer.Check, self)
        watch: Any = partial(HealthServicer.Watch, self)
        check.experimental_thread_pool = watch.experimental_thread_pool = pool
        watch.experimental_non_blocking = True
        vars(self).update(Check=check, Watch=watch)


class DatabaseWatch:
    """Keeps the health of the services in step with whether the database answers.

    Two threads: one asks and may hang with the database; one tells and waits for nothing.
    """

    def __init__(self, store: Store, health: HealthServicer, services: Iterable[str]) -> None:
        self._store = store
        self._health = health
        self._services = ["", *services]
        # The store has just been opened on it.
        self._answered = time.monotonic()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=loop, name=f"database-watch{loop.__name__}", daemon=True)
            for loop in (self._ask, self._tell)
        ]

    def start(self) -> None:
        """Go on in the background until end()."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Tell NOT_SERVING from now on, and ask no more."""
        self._ended.set()
        self._health.enter_graceful_shutdown()
        for thread in self._threads:
            # One that hangs with the database is left to end with the process.
            thread.join(timeout=1)

    def _ask(self) -> None:
        while not self._ended.wait(_ASK_EVERY_SECONDS):
            asked = time.monotonic()
            try:
                self._store.read(lambda reader: reader.last_change_number(), deadline=asked + 1)
                self._answered = asked
            except Exception:
                # Whatever it was, the watch goes on: else health could never be good again.
                self._answered = float("-inf")

    def _tell(self) -> None:
        told = None
        while not self._ended.is_set():
            good = time.monotonic() - self._answered < _ANSWER_GOOD_FOR_SECONDS
            status = HealthCheckResponse.SERVING if good else HealthCheckResponse.NOT_SERVING
            if status != told:
                for service in self._services:
                    self._health.set(service, status)
                told = status
            self._ended.wait(0.1)
