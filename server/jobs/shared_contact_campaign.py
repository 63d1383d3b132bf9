"""Carries on the campaign against shared contact info that runs, if one does.

Each step locks the campaign, so of several servers one goes on and the others find nothing to do.
"""

import time
from collections.abc import Callable
from datetime import datetime

import structlog
from opentelemetry import metrics

from server.domain.caller import Caller, CallerKind
from server.jobs.background import Background
from server.store.campaign_steps import Stopped, take_step
from server.store.store import Store
from server.store.transaction import Transaction

# How soon who has given an address of their own is found to be out.
_IDLE_SECONDS = 30.0

# The judgement of all at once takes seconds for ten thousand, and holds up nobody but the campaign.
_LONGEST_STEP_SECONDS = 300.0

_CLEAN_UP = Caller(CallerKind.CLEAN_UP, "campaign")

_log = structlog.get_logger()
_stops = metrics.get_meter("server").create_counter(
    "krr.campaign.stops_at_cap", description="Campaigns that were about to delete more than they may"
)


class SharedContactCampaigns:
    """The job: background is to be started."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self.background = Background("shared-contact-campaign", self.step, idle_seconds=_IDLE_SECONDS)

    def step(self, deadline: float) -> bool:
        """Do one step; returns whether there may be more to do at once.

        deadline: on time.monotonic(); a step has five minutes all the same.

        Raises Refusal: DEADLINE, CONFLICT, DATABASE_UNAVAILABLE. Nothing is lost: call it again.
        """

        def do(transaction: Transaction) -> bool | Stopped:
            return take_step(transaction, self._store.digest, self._now())

        deadline = max(deadline, time.monotonic() + _LONGEST_STEP_SECONDS)
        done = self._store.write(_CLEAN_UP, do, deadline=deadline)
        if isinstance(done, Stopped):
            _stops.add(1)
            _log.error(
                "campaign_stopped_at_cap",
                campaign_id=done.campaign_id,
                deletions=done.deletions,
                max_deletions=done.max_deletions,
            )
            return False
        return done
