"""Numbers of the regulation and of published interfaces, each with its source."""

import calendar
from datetime import UTC, date, datetime
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


def date_in_norway(time: datetime) -> date:
    """The calendar day in Norway, by which the regulation counts."""
    return time.astimezone(_NORWAY).date()


def months_later(time: datetime, months: int) -> datetime:
    """The same wall-clock time in Norway so many calendar months later, in UTC.

    A day that the later month lacks becomes its last day (31 August + 18 months = 28 or
    29 February).
    """
    local = time.astimezone(_NORWAY)
    years, month = divmod(local.month - 1 + months, 12)
    year, month = local.year + years, month + 1
    day = min(local.day, calendar.monthrange(year, month)[1])
    return local.replace(year=year, month=month, day=day).astimezone(UTC)
