"""Times of the contract as text, RFC 3339 in UTC, at a cost that millions of them bear.

Protobuf's own way takes several times as long.
"""

import re
from datetime import date
from functools import cache, lru_cache

from google.protobuf.timestamp_pb2 import Timestamp

_DAY_SECONDS = 86_400
_FIRST_DAY = date(1970, 1, 1).toordinal()
# How times end that have neither fraction nor offset, as nearly all have: ":05Z" is 5 seconds.
# RFC 3339 § 5.6 allows lower case too, and a second of 60: nobody writes them.
_ENDINGS = {f":{seconds:02}Z": seconds for seconds in range(60)}
_TEXT_OF_ENDINGS = list(_ENDINGS)
_FRACTION_AND_OFFSET = re.compile(r"(?:\.(\d{1,9}))?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))", re.ASCII)


def timestamp_text(time: Timestamp) -> str:
    """The time, such as 2028-03-23T10:00:00Z; with as much of a fraction as it has."""
    if time.nanos:
        return time.ToJsonString()
    minutes, seconds = divmod(time.seconds, 60)
    days, minutes = divmod(minutes, _DAY_SECONDS // 60)
    return _day_text(days) + _minute_text(minutes) + _TEXT_OF_ENDINGS[seconds]


def set_timestamp(time: Timestamp, text: str) -> None:
    """Set an empty time to what the text says. Raises ValueError, which quotes none of it."""
    fraction, offset, ending = "", 0, text[16:]
    if ending not in _ENDINGS:
        match = _FRACTION_AND_OFFSET.fullmatch(text, 19)
        ending = f"{text[16:19]}Z"
        if not match or ending not in _ENDINGS:
            raise ValueError("no time of RFC 3339")
        fraction = match[1] or ""
        if match[2]:
            offset = (int(match[3]) * 60 + int(match[4])) * (60 if match[2] == "+" else -60)
    seconds = _day(text[:11]) + _minute(text[11:16]) + _ENDINGS[ending] - offset
    if offset and not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        raise ValueError("no time of the contract")
    time.seconds = seconds
    if fraction:
        time.nanos = int(fraction.ljust(9, "0"))


@lru_cache(maxsize=65_536)
def _day_text(days: int) -> str:
    return f"{date.fromordinal(_FIRST_DAY + days)}T"


@cache
def _minute_text(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@lru_cache(maxsize=65_536)
def _day(text: str) -> int:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}T", text, re.ASCII):
        raise ValueError("no day of RFC 3339")
    try:
        day = date.fromisoformat(text[:10])
    except ValueError:
        # Not chained: its message quotes the text.
        raise ValueError("no day of the calendar") from None
    return (day.toordinal() - _FIRST_DAY) * _DAY_SECONDS


@cache
def _minute(text: str) -> int:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text, re.ASCII):
        raise ValueError("no time of day of RFC 3339")
    return int(text[:2]) * 3600 + int(text[3:]) * 60


_LEAST_SECONDS, _MOST_SECONDS = _day("0001-01-01T"), _day("9999-12-31T") + _DAY_SECONDS - 1
