"""The clean-up's rules: how long people have, by Norway's calendar, and where an organisation is told."""

from datetime import UTC, date, datetime, timedelta

import pytest

from server.domain.campaign import check_deadline, check_domain, is_over, may_still_write, notice_address
from server.domain.errors import InvalidValue

DEADLINE = date(2027, 7, 1)


@pytest.mark.parametrize(
    ("now", "over"),
    [
        ("2027-06-30T12:00:00", False),
        ("2027-07-01T21:59:59", False),
        # Midnight in Norway's summer.
        ("2027-07-01T22:00:00", True),
    ],
)
def test_the_deadline_is_over_when_its_day_has_ended_in_norway(now: str, over: bool) -> None:
    assert is_over(DEADLINE, datetime.fromisoformat(now).replace(tzinfo=UTC)) is over


@pytest.mark.parametrize(("days", "may"), [(8, True), (7, True), (6, False), (0, False)])
def test_no_letter_is_written_in_the_last_week(days: int, may: bool) -> None:
    now = datetime(2027, 7, 1, 12, tzinfo=UTC) - timedelta(days=days)
    assert may_still_write(DEADLINE, now) is may


@pytest.mark.parametrize(("days", "long_enough"), [(14, True), (13, False), (-1, False)])
def test_a_deadline_leaves_fourteen_days(days: int, long_enough: bool) -> None:
    now = datetime(2027, 7, 1, 12, tzinfo=UTC) - timedelta(days=days)
    if long_enough:
        check_deadline(DEADLINE, now)
    else:
        with pytest.raises(InvalidValue):
            check_deadline(DEADLINE, now)


@pytest.mark.parametrize(
    ("domain", "allowed"), [("gmail.com", False), ("online.no", False), ("firm.no", True)]
)
def test_a_public_mail_domain_is_nobodys(domain: str, allowed: bool) -> None:
    if allowed:
        check_domain(domain)
    else:
        with pytest.raises(InvalidValue):
            check_domain(domain)


def test_an_organisation_is_told_where_the_list_says_and_else_at_the_address_itself() -> None:
    known = {"firm.no": "post@firm.no"}
    assert notice_address("desk@firm.no", known) == "post@firm.no"
    assert notice_address("desk@other.no", known) == "desk@other.no"
    assert notice_address("desk@sub.firm.no", known) == "desk@sub.firm.no"
