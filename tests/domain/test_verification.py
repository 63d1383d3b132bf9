"""When another code may be sent, and what a try proves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.errors import Reason
from server.domain.verification import (
    CODE_LIFETIME,
    COUNTED_FOR,
    MOST_CODES,
    MOST_TRIES,
    MOST_WRONG_TRIES,
    RESEND_AFTER,
    SentCode,
    WaitingCode,
    judge_try,
    wait_before_code,
)

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
A_MOMENT = timedelta(microseconds=1)
VALUE = "+4791234567"
WAITING = WaitingCode(VALUE, expires=NOW + A_MOMENT, wrong_tries=MOST_TRIES - 1, ended=False)

SECONDS = st.integers(0, 30 * 3600).map(lambda seconds: timedelta(seconds=seconds))
SENT = st.builds(
    SentCode,
    created=SECONDS.map(lambda age: NOW - age),
    wrong_tries=st.integers(0, MOST_TRIES),
    to_point=st.booleans(),
    to_value=st.booleans(),
    of_person=st.booleans(),
).map(lambda code: replace(code, of_person=code.of_person or code.to_point))


def sent(*ages: timedelta, wrong_tries: int = 0, to: str = "point") -> list[SentCode]:
    return [
        SentCode(NOW - age, wrong_tries, to == "point", to == "value", of_person=to != "value")
        for age in ages
    ]


def minutes(*count: int) -> list[timedelta]:
    return [timedelta(minutes=each) for each in count]


@pytest.mark.parametrize(
    ("codes", "wait"),
    [
        ([], timedelta()),
        (sent(timedelta()), RESEND_AFTER),
        (sent(RESEND_AFTER - A_MOMENT), A_MOMENT),
        (sent(RESEND_AFTER), timedelta()),
        # To the other contact point, or by another person to the same number.
        (sent(timedelta(), to="other point"), timedelta()),
        (sent(timedelta(), to="value"), timedelta()),
        (sent(*minutes(2, 4, 6, 8)), timedelta()),
        (sent(*minutes(2, 4, 6, 8, 10)), COUNTED_FOR - timedelta(minutes=10)),
        (sent(*minutes(2, 4, 6, 8, 10, 12)), COUNTED_FOR - timedelta(minutes=10)),
        (sent(*minutes(10, 8, 6, 4, 2), to="value"), COUNTED_FOR - timedelta(minutes=10)),
        (sent(*minutes(2, 4, 6, 8), COUNTED_FOR), timedelta()),
        (sent(*minutes(2, 4, 6, 8), COUNTED_FOR - A_MOMENT), A_MOMENT),
        (sent(*minutes(2, 4, 6), to="other point") + sent(*minutes(2, 4, 6)), timedelta()),
        (sent(*minutes(2, 4), wrong_tries=5) + sent(*minutes(3, 5), wrong_tries=4), timedelta()),
        (
            sent(*minutes(2, 4), wrong_tries=5) + sent(*minutes(3, 5), wrong_tries=5, to="other point"),
            COUNTED_FOR + CODE_LIFETIME - timedelta(minutes=5),
        ),
        (sent(*minutes(2, 3, 4, 5), wrong_tries=5, to="value"), timedelta()),
    ],
)
def test_another_code_waits_for_the_longest_of_its_limits(codes: list[SentCode], wait: timedelta) -> None:
    assert wait_before_code(NOW, codes) == wait
    assert wait_before_code(NOW, reversed(codes)) == wait


@given(st.lists(SENT, max_size=14))
def test_after_the_wait_another_code_may_be_sent_and_a_moment_before_it_may_not(
    codes: list[SentCode],
) -> None:
    wait = wait_before_code(NOW, codes)
    assert wait >= timedelta()
    assert wait_before_code(NOW + wait, codes) == timedelta()
    if wait:
        assert wait_before_code(NOW + wait - A_MOMENT, codes) == A_MOMENT


@given(st.lists(st.tuples(SECONDS, st.booleans(), st.integers(0, MOST_TRIES)), max_size=20))
def test_whoever_waits_as_told_and_guesses_has_never_more_in_a_day_than_the_limits(
    asks: list[tuple[timedelta, bool, int]],
) -> None:
    now, sent_so_far = NOW, {True: list[SentCode](), False: list[SentCode]()}
    for more_patience, by_mobile, guesses in asks:
        point, other = sent_so_far[by_mobile], sent_so_far[not by_mobile]
        known = [*point, *(replace(code, to_point=False) for code in other)]
        now += wait_before_code(now, known) + more_patience / 30
        wait = wait_before_code(now, known)
        assert wait == timedelta()
        if point:
            assert now - point[-1].created >= RESEND_AFTER
        of_late = [code for code in known if code.created > now - COUNTED_FOR]
        assert sum(code.to_point for code in of_late) < MOST_CODES
        tried = sum(code.wrong_tries for code in of_late)
        waiting = WaitingCode(VALUE, now + CODE_LIFETIME, 0, ended=False)
        wrong = 0
        while wrong < guesses and (
            judge_try(now, replace(waiting, wrong_tries=wrong), VALUE, tried + wrong, is_right=False)
            is Reason.CODE_WRONG
        ):
            wrong += 1
        assert tried + wrong <= MOST_WRONG_TRIES
        point.append(SentCode(now, wrong, to_point=True, to_value=False, of_person=True))


@pytest.mark.parametrize(
    "spoilt",
    [
        None,
        replace(WAITING, ended=True),
        replace(WAITING, sent_to="+4741234567"),
        replace(WAITING, sent_to=None),
        replace(WAITING, expires=NOW),
        replace(WAITING, wrong_tries=MOST_TRIES),
    ],
)
def test_a_code_that_waits_no_longer_proves_nothing_and_says_not_whether_it_was_right(
    spoilt: WaitingCode | None,
) -> None:
    for is_right in (True, False):
        assert judge_try(NOW, spoilt, VALUE, 0, is_right=is_right) is Reason.CODE_EXPIRED


def test_a_code_that_waits_is_right_or_wrong_until_the_person_has_tried_too_often() -> None:
    for wrong_tries in (0, MOST_WRONG_TRIES - 1):
        assert judge_try(NOW, WAITING, VALUE, wrong_tries, is_right=True) is None
        assert judge_try(NOW, WAITING, VALUE, wrong_tries, is_right=False) is Reason.CODE_WRONG
    for is_right in (True, False):
        assert judge_try(NOW, WAITING, VALUE, MOST_WRONG_TRIES, is_right=is_right) is Reason.CODE_EXPIRED


def test_the_chance_of_guessing_in_a_day_is_one_in_fifty_thousand_at_most() -> None:
    assert MOST_WRONG_TRIES / 1_000_000 <= 1 / 50_000
    assert MOST_WRONG_TRIES < 2 * MOST_CODES * MOST_TRIES, "else the codes alone would limit it"
