"""Numbers of the regulation and of published interfaces, each with its source."""

import calendar
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

# eForvaltningsforskriften § 32 second paragraph: contact info that was not updated or
# confirmed for 18 months may not be used for notices.
STALE_AFTER_MONTHS = 18

# Skatteetaten: from 2032 the first control digit may leave a remainder of 0 to 3, and
# neither sex nor century can be read from the number.
RELAXED_CONTROL_DIGIT_FROM = date(2032, 1, 1)

# KRR REST v2: 1 to 1000 identifiers per look-up, at most 1000 persons per page of changes.
MAX_BATCH = 1000

# KRR metadata schema 16-02, postkasseadresse.
MAILBOX_ADDRESS_LENGTH = range(8, 100 + 1)

# KRR metadata schema 16-02, mobiltelefonnummer.
MOBILE_LENGTH = range(8, 20 + 1)

# RFC 5321 § 4.5.3.1.3, less the angle brackets. KRR itself takes 50.
MAX_EMAIL_LENGTH = 254

_NORWAY = ZoneInfo("Europe/Oslo")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = 3_600_000_000


def date_in_norway(time: datetime) -> date:
    """The calendar day in Norway, by which the regulation counts."""
    return time.astimezone(_NORWAY).date()


def hour_in_norway(time: datetime) -> int:
    """The hour that clocks in Norway show."""
    return time.astimezone(_NORWAY).hour


def months_later(time: datetime, months: int) -> datetime:
    """The same wall-clock time in Norway so many calendar months later, in UTC.

    A day that the later month lacks becomes its last day (31 August + 18 months = 28 or
    29 February).

    time: not before 1895, when Norway's clocks had not come to differ from UTC by whole hours.
    """
    time = time.astimezone(UTC)
    since = time - _EPOCH
    span = _span(24 * since.days + since.seconds // 3600, months)
    return time + timedelta(microseconds=span)


def microseconds_later(time: int, months: int) -> int:
    """The same for a time in microseconds since 1970."""
    return time + _span(time // _HOUR, months)


# Every look-up and every row of an import asks for it, and most persons were heard of in the same
# few years: these are the hours of nearly four. It takes some 8 MB.
@lru_cache(maxsize=2**15)
def _span(hour: int, months: int) -> int:
    """From any moment of an hour to its like so many months later, in microseconds: the same for
    all of them, as calendar days begin and clocks change on the hour.

    hour: counted from 1970.
    """
    start = _EPOCH + timedelta(hours=hour)
    local = start.astimezone(_NORWAY)
    years, month = divmod(local.month - 1 + months, 12)
    year, month = local.year + years, month + 1
    day = min(local.day, calendar.monthrange(year, month)[1])
    later = local.replace(year=year, month=month, day=day).astimezone(UTC)
    return (later - start) // timedelta(microseconds=1)
