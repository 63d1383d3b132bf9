"""Until when senders find a current certificate of each owner: a metric, and a warning in time."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from server.domain.caller import Caller, CallerKind
from server.domain.certificates import Owner, covered_until
from server.store.certificates import all_certificates, may_warn
from server.store.store import Store

# The staff is warned for so long before; an enterprise certificate is ordered in days.
_WARN_BEFORE = timedelta(days=30)

_REGISTER = Caller(CallerKind.REGISTER, "certificates")

_log = structlog.get_logger()


class CertificateWatch:
    """Looks when it is told to, and tells the metric krr.certificate.time_to_expiry: seconds until
    senders find no current certificate of an owner (attribute krr.certificate.owner: an
    organisation number or "print"); 0 where they find none now.

    meter: makes the metric.
    """

    def __init__(self, store: Store, now: Callable[[], datetime], meter: Meter | None = None) -> None:
        self._store = store
        self._now = now
        self._covered: Mapping[Owner, datetime] = {}
        (meter or metrics.get_meter("server")).create_observable_gauge(
            "krr.certificate.time_to_expiry",
            callbacks=[self._observe],
            unit="s",
            description="Until senders find no current certificate",
        )

    def look(self, deadline: float) -> None:
        """Read the certificates, and log a warning of those that expire within 30 days: once a day,
        whichever servers look how often.

        deadline: on time.monotonic().

        Raises Refusal: DEADLINE, CONFLICT, DATABASE_UNAVAILABLE. Nothing is lost: call it again.
        """
        now = self._now()
        self._covered = covered_until(self._store.read(all_certificates, deadline=deadline), now)
        soon = {owner: end for owner, end in self._covered.items() if end - now < _WARN_BEFORE}
        if not soon:
            return
        warn: bool = self._store.write(_REGISTER, partial(may_warn, now=now), deadline=deadline)
        for owner, end in soon.items() if warn else ():
            _log.warning(
                "certificate_expires_soon",
                owner=_name(owner),
                covered_until=end.isoformat(timespec="seconds"),
                days=(end - now).days,
            )

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        now = self._now()
        return [
            Observation(max(0.0, (end - now).total_seconds()), {"krr.certificate.owner": _name(owner)})
            for owner, end in self._covered.items()
        ]


def _name(owner: Owner) -> str:
    return owner or "print"
