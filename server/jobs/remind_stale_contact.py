"""Goes through all persons once a day and reminds those whose contact info grows stale.

A pass that was cut off begins anew: nobody is reminded of one step twice, whoever goes through at once.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

import structlog

from server.domain.caller import Caller, CallerKind
from server.jobs.background import Background
from server.store.reminders import remind_batch
from server.store.store import Store

# In one transaction: writes of those among them who are reminded wait while it goes on.
_PERSONS = 1000
_BETWEEN_PASSES_SECONDS = 24 * 60 * 60.0
_LOOK_SECONDS = 60.0

_REGISTER = Caller(CallerKind.REGISTER, "remind")

_log = structlog.get_logger()


class StaleContactReminders:
    """The job, to be started.

    steps: after how many months without word, rising.
    """

    def __init__(self, store: Store, now: Callable[[], datetime], steps: Sequence[int]) -> None:
        self._store = store
        self._now = now
        self._steps = steps
        self._after = 0
        self._next_pass = time.monotonic()
        self._written: Counter[str] = Counter()
        self.background = Background("remind-stale-contact", self.step, idle_seconds=_LOOK_SECONDS)

    def step(self, deadline: float) -> bool:
        """Look at the next persons, where a pass is due; returns whether there are more.

        deadline: on time.monotonic().

        Raises Refusal: DEADLINE, CONFLICT, DATABASE_UNAVAILABLE. Nothing is lost: call it again.
        """
        if time.monotonic() < self._next_pass:
            return False
        do = partial(
            remind_batch,
            now=self._now(),
            steps=self._steps,
            after=self._after,
            limit=_PERSONS,
            dry_run=False,
        )
        batch = self._store.write(_REGISTER, do, deadline=deadline)
        for (months, channel), count in batch.written.items():
            self._written[f"{months}_months_{channel.lower()}"] += count
        if batch.last is not None:
            self._after = batch.last
            return True
        _log.info("reminded", **self._written)
        self._after, self._next_pass = 0, time.monotonic() + _BETWEEN_PASSES_SECONDS
        self._written.clear()
        return False
