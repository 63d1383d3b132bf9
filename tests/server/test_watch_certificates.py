"""The staff hears in time, once a day, that senders will find no current certificate."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from structlog.testing import capture_logs

from server.__main__ import Server
from server.certificate_content import read_certificate
from server.domain.caller import Caller, CallerKind
from server.domain.certificates import CertificateUse
from server.domain.identifiers import OrganisationNumber
from server.encoded_person import encode_person
from server.jobs.watch_certificates import CertificateWatch
from server.store import certificates
from server.store.store import Store
from tests import people
from tests.certificates import DAY, organisation_certificate

DIGIPOST, EBOKS = OrganisationNumber(people.DIGIPOST), OrganisationNumber(people.EBOKS)
STAFF = Caller(CallerKind.ADMINISTRATOR, "test")
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def in_time() -> float:
    return time.monotonic() + 20


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url, encode_person, connections=4, require_durable=False)
    yield opened
    opened.close()


class Watched:
    """A server that looks when the test says so."""

    def __init__(self, store: Store) -> None:
        self.now = START
        self._metrics = InMemoryMetricReader()
        meter = MeterProvider([self._metrics], shutdown_on_exit=False).get_meter("test")
        self._watch = CertificateWatch(store, lambda: self.now, meter)

    def look(self) -> None:
        self._watch.look(in_time())

    def warnings(self) -> list[tuple[str, int]]:
        """Owners and days of the warnings that this look logs."""
        with capture_logs() as logs:
            self.look()
        assert all(log["event"] == "certificate_expires_soon" for log in logs)
        assert all(log["log_level"] == "warning" for log in logs)
        return [(log["owner"], log["days"]) for log in logs]

    def seconds(self) -> dict[str, float]:
        """The metric, by owner."""
        data = self._metrics.get_metrics_data()
        if data is None:
            return {}
        [metric] = data.resource_metrics[0].scope_metrics[0].metrics
        assert (metric.name, metric.unit) == ("krr.certificate.time_to_expiry", "s")
        return {
            str((point.attributes or {})["krr.certificate.owner"]): point.value  # type: ignore[union-attr]  # a gauge's
            for point in metric.data.data_points
        }


@pytest.fixture
def watched(store: Store) -> Watched:
    return Watched(store)


def enter(
    store: Store,
    days: int,
    organisation: OrganisationNumber = DIGIPOST,
    use: CertificateUse = CertificateUse.MAILBOX,
    use_from: datetime = START,
    valid_from: datetime = START,
) -> None:
    """Enter a certificate that is valid for so many days from the start."""
    content = read_certificate(
        organisation_certificate(organisation, valid_from=valid_from, valid_for=days * DAY)
    )
    store.write(
        STAFF,
        lambda transaction: certificates.add(transaction, content, use, organisation, use_from, START),
        deadline=in_time(),
    )


def test_the_staff_is_warned_of_an_owner_from_thirty_days_before_once_a_day(
    store: Store, watched: Watched
) -> None:
    enter(store, 40)
    enter(store, 100, EBOKS)
    assert watched.warnings() == []

    watched.now = START + 10 * DAY
    assert watched.warnings() == []

    watched.now += DAY / 24
    assert watched.warnings() == [(DIGIPOST, 29)]
    assert watched.warnings() == []

    watched.now += DAY - DAY / 1000
    assert watched.warnings() == []
    watched.now += DAY / 1000
    assert watched.warnings() == [(DIGIPOST, 28)]


def test_of_many_servers_one_warns(store: Store, watched: Watched) -> None:
    enter(store, 5)
    others = [watched, *(Watched(store) for _ in range(3))]

    with capture_logs() as logs, ThreadPoolExecutor(4) as threads:
        list(threads.map(Watched.look, others))

    assert [log["event"] for log in logs] == ["certificate_expires_soon"]


def test_who_has_entered_the_next_one_in_time_is_not_warned(store: Store, watched: Watched) -> None:
    enter(store, 5)
    enter(store, 400, use_from=START + 4 * DAY)

    assert watched.warnings() == []
    assert watched.seconds() == {DIGIPOST: 400 * 86_400}


def test_a_gap_between_two_certificates_is_warned_of(store: Store, watched: Watched) -> None:
    enter(store, 5)
    enter(store, 400, use_from=START + 6 * DAY)

    assert watched.warnings() == [(DIGIPOST, 5)]


def test_the_metric_tells_seconds_of_each_owner_and_nothing_before_the_first_look(
    store: Store, watched: Watched
) -> None:
    enter(store, 5)
    enter(store, 50, EBOKS)
    enter(store, 60, EBOKS, CertificateUse.PRINT)
    assert watched.seconds() == {}

    watched.warnings()
    watched.now += DAY
    assert watched.seconds() == {DIGIPOST: 4 * 86_400, EBOKS: 49 * 86_400, "print": 59 * 86_400}

    watched.now += 30 * DAY
    assert watched.seconds()[DIGIPOST] == 0


def test_an_owner_whose_certificate_has_expired_is_warned_of_until_it_is_retired(
    store: Store, watched: Watched
) -> None:
    enter(store, 5)
    watched.now = START + 6 * DAY
    assert watched.warnings() == [(DIGIPOST, 0)]
    assert watched.seconds() == {DIGIPOST: 0}

    store.write(STAFF, lambda transaction: certificates.retire(transaction, 1, START), deadline=in_time())
    watched.now += DAY

    assert watched.warnings() == []
    assert watched.seconds() == {}


def test_the_server_looks_when_it_tidies(server: Server, store: Store) -> None:
    enter(store, 5, valid_from=datetime.now(UTC))

    with capture_logs() as logs:
        server.tidy()

    [warning] = [log for log in logs if log["event"] == "certificate_expires_soon"]
    assert (warning["owner"], warning["days"]) == (DIGIPOST, 4)


def test_a_register_without_certificates_warns_of_nothing(watched: Watched) -> None:
    assert watched.warnings() == []
