"""How long contact info may be used: 18 calendar months, in Norway."""

import calendar
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.contact import ContactPoint
from server.domain.rules import STALE_AFTER_MONTHS, months_later

NORWAY = ZoneInfo("Europe/Oslo")
MICROSECOND = timedelta(microseconds=1)
TIMES = st.timedeltas(timedelta(), timedelta(days=120 * 365)).map(datetime(1980, 1, 1, tzinfo=UTC).__add__)


def in_norway(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NORWAY)


@pytest.mark.parametrize(
    ("time", "later"),
    [
        ("2024-05-17T12:00", "2025-11-17T12:00"),  # summer to winter: the wall clock counts
        ("2024-11-17T12:00", "2026-05-17T12:00"),
        ("2024-08-31T12:00", "2026-02-28T12:00"),
        ("2022-08-31T12:00", "2024-02-29T12:00"),
        ("2022-08-29T12:00", "2024-02-29T12:00"),
        ("2022-08-28T12:00", "2024-02-28T12:00"),
        ("2024-02-29T12:00", "2025-08-29T12:00"),
        ("2024-12-31T23:59:59.999999", "2026-06-30T23:59:59.999999"),
        ("2024-01-01T00:00", "2025-07-01T00:00"),
        ("2098-08-31T00:30", "2100-02-28T00:30"),  # 2100 is no leap year
        ("2024-07-01T00:30", "2026-01-01T00:30"),  # 30 June in UTC
        ("2024-09-29T01:30", "2026-03-29T01:30"),
    ],
)
def test_eighteen_months_later_the_calendar_shows_the_same_day_or_the_months_last(
    time: str, later: str
) -> None:
    assert months_later(in_norway(time), STALE_AFTER_MONTHS) == in_norway(later)


def test_a_wall_clock_time_that_spring_skips_becomes_the_moment_after_the_gap() -> None:
    # On 29 March 2026 Norway's clocks go from 02:00 to 03:00.
    later = months_later(in_norway("2024-09-29T02:30"), STALE_AFTER_MONTHS)
    assert later == in_norway("2026-03-29T03:30")


def test_a_wall_clock_time_that_autumn_repeats_is_its_first_moment() -> None:
    # On 26 October 2025 Norway's clocks go from 03:00 back to 02:00.
    later = months_later(in_norway("2024-04-26T02:30"), STALE_AFTER_MONTHS)
    assert later == datetime(2025, 10, 26, 0, 30, tzinfo=UTC)


def test_both_moments_that_autumn_repeats_last_until_the_same_wall_clock_time() -> None:
    first = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
    second = first + timedelta(hours=1)
    assert months_later(first, 18) == months_later(second, 18) == in_norway("2026-04-27T02:30")


@given(time=TIMES, months=st.integers(0, 60))
def test_months_later_agrees_with_counting_month_by_month(time: datetime, months: int) -> None:
    local = time.astimezone(NORWAY)
    first = local.date().replace(day=1)
    for _ in range(months):
        first += timedelta(days=calendar.monthrange(first.year, first.month)[1])
    days = [date(first.year, first.month, day) for day in range(1, 32) if _exists(first, day)]
    expected = datetime.combine(days[: local.day][-1], local.time(), NORWAY)

    later = months_later(time, months)

    assert later.tzinfo is UTC
    gap_or_repetition = timedelta(hours=1)
    assert abs(later - expected) <= gap_or_repetition
    if expected.astimezone(UTC).astimezone(NORWAY).replace(tzinfo=None) == expected.replace(tzinfo=None):
        assert later.astimezone(NORWAY).replace(tzinfo=None) == expected.replace(tzinfo=None)


@given(time=TIMES, seconds=st.integers(0, 40 * 24 * 3600))
def test_whoever_updates_later_expires_later_or_on_the_same_day(time: datetime, seconds: int) -> None:
    later = time + timedelta(seconds=seconds)
    # 30 March at noon and 31 March at ten both end on 30 September, at noon and at ten.
    assert (
        months_later(time, 18).astimezone(NORWAY).date() <= months_later(later, 18).astimezone(NORWAY).date()
    )


def _exists(month: date, day: int) -> bool:
    return day <= calendar.monthrange(month.year, month.month)[1]


UPDATED = in_norway("2024-08-31T12:00").astimezone(UTC)
EIGHTEEN_MONTHS_LATER = in_norway("2026-02-28T12:00")


@pytest.mark.parametrize(
    ("moment", "expired"),
    [
        (UPDATED, False),
        (EIGHTEEN_MONTHS_LATER - MICROSECOND, False),
        (EIGHTEEN_MONTHS_LATER, False),
        (EIGHTEEN_MONTHS_LATER + MICROSECOND, True),
    ],
)
def test_a_contact_point_expires_after_the_last_moment_of_eighteen_months(
    moment: datetime, expired: bool
) -> None:
    assert ContactPoint(value="ola@example.com", updated=UPDATED).is_expired(moment) is expired


@pytest.mark.parametrize("renewed_by", ["updated", "confirmed", "validated"])
def test_the_latest_of_update_confirmation_and_validation_counts(renewed_by: str) -> None:
    long_ago = UPDATED - timedelta(days=1000)
    times: dict[str, Any] = {
        "updated": long_ago,
        "confirmed": long_ago,
        "validated": long_ago,
        renewed_by: UPDATED,
    }
    point = ContactPoint(value="ola@example.com", **times)
    assert point.usable_until == EIGHTEEN_MONTHS_LATER


def test_a_contact_point_that_was_only_updated_expires_by_that() -> None:
    point = ContactPoint(value="ola@example.com", updated=UPDATED)
    assert point.usable_until == EIGHTEEN_MONTHS_LATER
    assert point.confirmed is point.validated is None
