"""What is read by tables, patterns and memory is read as the plain way reads it, whatever it is."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from hypothesis import example, given
from hypothesis import strategies as st

from server.domain.contact import parse_email, parse_mobile
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import parse_person_identifier
from server.domain.rules import months_later
from tests.domain import plainly
from tests.people import identifier

BEFORE_2032 = date(2031, 12, 31)
FROM_2032 = date(2032, 1, 1)
MICROSECOND = timedelta(microseconds=1)

DIGITS = "0123456789"
ASCII = "".join(map(chr, range(128)))


def outcome(parse: Callable[[str], str], text: str) -> str | Reason:
    try:
        return parse(text)
    except InvalidValue as invalid:
        return invalid.reason


def agree_on_identifier(text: str) -> str | Reason:
    """What becomes of it before 2032 where synthetic identifiers are taken."""
    for today in (FROM_2032, BEFORE_2032):
        for accept_synthetic in (False, True):

            def parse(each: str, today: date = today, accept_synthetic: bool = accept_synthetic) -> str:
                return parse_person_identifier(each, accept_synthetic=accept_synthetic, today=today)

            expected = plainly.person_identifier(text, accept_synthetic=accept_synthetic, today=today)
            assert outcome(parse, text) == expected, text
    return expected


@pytest.mark.parametrize("year", [0, 35, 36, 99])
def test_of_all_days_and_months_the_tables_take_those_that_a_calendar_has(year: int) -> None:
    taken = 0
    for day in range(100):
        for month in range(100):
            found = (identifier(day, month, year, individual) for individual in range(500, 510))
            taken += agree_on_identifier(next(filter(None, found))) is not Reason.INVALID_IDENTIFIER
    assert taken == 4 * (366 if year % 4 == 0 else 365)


@pytest.mark.parametrize("day_month_year", ["118226", "290236", "690235", "410100", "311299", "320101"])
def test_the_tables_take_the_control_digits_that_the_sums_do(day_month_year: str) -> None:
    for individual in range(0, 1000, 17):
        for control_digits in range(100):
            agree_on_identifier(f"{day_month_year}{individual:03}{control_digits:02}")


@given(
    st.text(DIGITS, min_size=11, max_size=11)
    | st.text(DIGITS, max_size=13)
    | st.text(f"{DIGITS}०１٣²+- _\n", min_size=10, max_size=12)
    | st.text(st.characters(codec=None), max_size=13)
)
def test_any_text_is_an_identifier_by_the_tables_as_by_the_sums(text: str) -> None:
    agree_on_identifier(text)


@pytest.mark.parametrize("spoilt", ["", "0", "00", " ", "\n", "\0", "+", "²", "٣", "०"])
def test_a_spoilt_identifier_is_refused_by_the_tables_as_by_the_sums(spoilt: str) -> None:
    right = "11822648950"
    for position in range(12):
        agree_on_identifier(right[:position] + spoilt + right[position:])
        agree_on_identifier(right[:position] + spoilt + right[position + 1 :])


ORDINARY_LOCAL_PARTS = st.text("abcxyz019._+-", min_size=1, max_size=6)
LOCAL_PARTS = (
    ORDINARY_LOCAL_PARTS
    | st.integers(62, 66).map("x".__mul__)
    | st.integers(31, 33).map(lambda count: "x" * count + "." + "y" * count)
    | st.text(ASCII, max_size=6)
    | st.text('aA."\\<>()@ åÅa\u030a\u0338＠ı\u202e\n', max_size=6)
    | st.text(max_size=6)
)
LABELS = (
    st.sampled_from(["no", "com", "example", "xn--blbr-roah", "blåbær", "xn--", "xn--a", "127", "A-b", "ß"])
    | st.text("abcABC019-", max_size=5)
    | st.integers(61, 65).map("x".__mul__)
    | st.text("aA0-_. 。．åÅa\u030a\u200d\u0338אب１\n", max_size=5)
)
DOMAINS = (
    st.sampled_from(["example.com", "EXAMPLE.com", "fjord.example.org", "localhost", "[127.0.0.1]", ""])
    | st.builds("{}{}".format, st.sampled_from(["", "x."]), st.sampled_from(SPECIAL_USE_DOMAIN_NAMES))
    | st.lists(LABELS, min_size=1, max_size=4).map(".".join)
    | st.integers(120, 127).map(lambda count: "a." * count + "no")
    | st.text(max_size=8)
)
# Their normal forms have 45 and 30 letters of three bytes.
UNPACKS = f"xn--p8s{'a' * 44}.xn--p8s{'a' * 29}.no"


@example(f"{'x' * 20}@{UNPACKS}")
@example(f"{'x' * 24}@{UNPACKS}")
@example(f"{'x' * 25}@{UNPACKS}")
@example("ola@xn--blbr-roah.no")
@example("ola@XN--BLBR-ROAH.no")
@example("ola@example.com\n")
@example("Ola <ola@example.com>")
@given(
    st.builds("{}@{}".format, LOCAL_PARTS, DOMAINS)
    | st.builds("{}@example.com".format, LOCAL_PARTS)
    | st.builds("{}@{}".format, ORDINARY_LOCAL_PARTS, DOMAINS)
    | st.emails()
    | st.text()
)
def test_any_text_is_the_email_address_that_the_library_says(text: str) -> None:
    expected = plainly.email(text)
    # The second time the domain is remembered.
    assert outcome(parse_email, text) == outcome(parse_email, text) == expected


@given(ORDINARY_LOCAL_PARTS, DOMAINS)
def test_an_email_address_of_a_domain_that_was_met_before_is_what_the_library_says(
    local_part: str, domain: str
) -> None:
    outcome(parse_email, f"x@{domain}")
    text = f"{local_part}@{domain}"
    assert outcome(parse_email, text) == plainly.email(text)


@pytest.mark.parametrize(
    "local_part", [".", ".a", "a.", "a..b", "a.b..c", "a.b.", "a.b.c", "-", "a-", "_", "+"]
)
def test_dots_in_an_email_address_stand_where_the_library_lets_them(local_part: str) -> None:
    text = f"{local_part}@example.com"
    assert outcome(parse_email, text) == plainly.email(text)


@pytest.mark.parametrize("name", CASE_INSENSITIVE_MAILBOX_NAMES)
def test_an_email_address_of_an_office_has_the_case_that_the_library_gives_it(name: str) -> None:
    for local_part in (name, name.upper(), name.capitalize(), f"{name}.{name.upper()}", f"X.{name}"):
        text = f"{local_part}@example.com"
        assert outcome(parse_email, text) == plainly.email(text)


@pytest.mark.parametrize("total", range(250, 258))
@pytest.mark.parametrize("local", [1, 63, 64, 65])
def test_the_lengths_of_an_email_address_are_limited_as_the_library_does(total: int, local: int) -> None:
    rest = total - local - len("@.no")
    domain = ".".join(["a" * 63] * (rest // 64) + ["a" * (rest % 64)])
    text = f"{'x' * local}@{domain}.no"
    assert outcome(parse_email, text) == plainly.email(text)


def test_every_norwegian_number_range_holds_the_mobiles_that_the_library_says() -> None:
    random = Random(4)
    mobiles = set()
    for head in range(10_000):
        number = f"{head:04}{random.randrange(10_000):04}"
        expected = plainly.mobile(number)
        assert outcome(parse_mobile, number) == expected
        if isinstance(expected, str):
            mobiles.add(number)
            for text in (f"+47{number}", f"0047{number}", f"+47 {number}", f"{number[:3]} {number[3:]}"):
                assert outcome(parse_mobile, text) == expected
    assert len(mobiles) > 1000


@example("9١234567")
@example("+47912３4567")
@example("4791234567")
@given(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "+47", "0047", "47", "+0047", "00 47", "+4 7", "0", "+46", "+1", "+", "++47"]),
        st.sampled_from(["", "4", "9", "58", "59", "8", "82", "٩", "９"]),
        st.text(DIGITS, max_size=12) | st.text(f"{DIGITS} -_", max_size=14) | st.text(max_size=9),
    )
)
def test_any_text_is_the_mobile_that_the_library_says(text: str) -> None:
    assert outcome(parse_mobile, text) == plainly.mobile(text)


START = datetime(1900, 1, 1, tzinfo=UTC)


def changes_of_clocks() -> list[datetime]:
    """The hours at which Norway's clocks change or have changed, from 1900 to 2100."""
    norway = ZoneInfo("Europe/Oslo")
    changes = []
    day = START
    while day.year < 2100:
        following = day + timedelta(days=1)
        if day.astimezone(norway).utcoffset() != following.astimezone(norway).utcoffset():
            hours = (day + timedelta(hours=hour) for hour in range(1, 25))
            changes.append(
                next(
                    h for h in hours if h.astimezone(norway).utcoffset() != day.astimezone(norway).utcoffset()
                )
            )
        day = following
    return changes


CHANGES_OF_CLOCKS = changes_of_clocks()
TIMES = st.timedeltas(timedelta(), timedelta(days=200 * 365)).map(START.__add__)
MONTHS = st.just(18) | st.integers(-60, 60)


def agree_on_months(time: datetime, months: int) -> None:
    later = months_later(time, months)
    assert later == plainly.months_later(time, months)
    assert later.tzinfo is UTC


@given(TIMES, MONTHS)
def test_any_time_so_many_months_later_is_what_the_calendar_says(time: datetime, months: int) -> None:
    hour = time.replace(minute=0, second=0, microsecond=0)
    # The first that is asked for of an hour speaks for all.
    for each in (time, hour, hour + timedelta(hours=1) - MICROSECOND):
        agree_on_months(each, months)


@given(
    st.sampled_from(CHANGES_OF_CLOCKS),
    st.integers(-60, 60),
    st.integers(-3, 3),
    st.sampled_from([-MICROSECOND, timedelta(), MICROSECOND, timedelta(minutes=30)]),
    MONTHS,
)
def test_near_where_clocks_change_before_or_after_the_months_it_is_what_the_calendar_says(
    change: datetime, before: int, hours: int, more: timedelta, months: int
) -> None:
    near = change + timedelta(hours=hours) + more
    agree_on_months(near, months)
    agree_on_months(plainly.months_later(near, before), -before)


@given(
    st.integers(1900, 2099),
    st.sampled_from([(2, 28), (3, 1), (8, 28), (8, 29), (8, 30), (8, 31), (9, 1), (12, 31)]),
    st.timedeltas(timedelta(hours=-3), timedelta(hours=27)),
    MONTHS,
)
def test_near_the_end_of_a_month_it_is_what_the_calendar_says(
    year: int, day: tuple[int, int], more: timedelta, months: int
) -> None:
    agree_on_months(datetime(year, *day, tzinfo=UTC) + more, months)


@given(TIMES, st.sampled_from(["Europe/Oslo", "Asia/Kathmandu", "America/St_Johns"]), MONTHS)
def test_a_time_of_another_zone_is_the_same_moment(time: datetime, zone: str, months: int) -> None:
    agree_on_months(time.astimezone(ZoneInfo(zone)), months)
