"""Health: SERVING while the database answers, told by grpc.health.v1 to anyone who asks."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse

from server.change_counter import ChangeCounter

# With the pace of the counter below 2 seconds: for no longer is the health wrong.
_ANSWER_GOOD_FOR_SECONDS = 1.3
_TELL_EVERY_SECONDS = 0.1


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


class DatabaseHealth:
    """Keeps the health of the services in step with whether the database answers the counter.

    On a thread of its own, which waits for nothing.
    """

    def __init__(self, counter: ChangeCounter, health: HealthServicer, services: Iterable[str]) -> None:
        self._counter = counter
        self._health = health
        self._services = ["", *services]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="health-teller", daemon=True)

    def start(self) -> None:
        """Go on in the background until end()."""
        self._thread.start()

    def end(self) -> None:
        """Tell NOT_SERVING from now on."""
        self._ended.set()
        self._health.enter_graceful_shutdown()
        self._thread.join()

    def _tell(self) -> None:
        told = None
        while not self._ended.is_set():
            good = time.monotonic() - self._counter.answered_time < _ANSWER_GOOD_FOR_SECONDS
            status = HealthCheckResponse.SERVING if good else HealthCheckResponse.NOT_SERVING
            if status != told:
                for service in self._services:
                    self._health.set(service, status)
                told = status
            self._ended.wait(_TELL_EVERY_SECONDS)
