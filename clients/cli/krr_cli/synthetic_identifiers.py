"""Identifiers of persons who cannot be: month + 80, as the test environments of the real register have."""

from collections.abc import Iterator
from datetime import date, timedelta
from random import Random

# Nobody on paper is younger than 15 or much older than 90.
_FIRST_BIRTH, _LAST_BIRTH = date(1932, 1, 1), date(2011, 12, 31)
_SYNTHETIC_MONTH = 80
_D_NUMBER_DAY = 40
# So many birth dates for one on which people without a fødselsnummer were born too.
_DATES_PER_D_NUMBER_DATE = 30
# Skatteetaten, "Fødselsnummer": individual numbers by century, and the weights of the two
# control digits, less those that the control digits bear themselves.
_INDIVIDUALS = 500
_FROM_1900, _FROM_2000 = 0, 500
_FIRST_WEIGHTS = (3, 7, 6, 1, 8, 9, 4, 5, 2)
_SECOND_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3)
_FIRST_DIGIT_IN_SECOND = 2

# Any multiplier that is 1 modulo 4, with any odd increment, visits every number below a power
# of two once before it comes back (Hull and Dobell 1962). This one is of "Numerical Recipes".
_MULTIPLIER = 1_664_525
_CYCLE = 2**24

MOST_IDENTIFIERS = 10_000_000


def synthetic_identifiers(random: Random) -> Iterator[str]:
    """Different identifiers with right control digits, at least MOST_IDENTIFIERS of them.

    random: decides which ones, and in which order. Only random() is asked, once or twice: it is
        the same in every version of Python.

    None is remembered: each comes from the place of the one before.
    """
    dates = list(_dates())
    individuals = [_weighed(f"{number:03}", 6) for number in range(1000)]
    place = int(random.random() * _CYCLE)
    increment = int(random.random() * _CYCLE) | 1
    for _ in range(_CYCLE):
        place = (place * _MULTIPLIER + increment) % _CYCLE
        on, individual = divmod(place, _INDIVIDUALS)
        if on >= len(dates):
            continue
        day, first_of_day, second_of_day, from_individual = dates[on]
        digits, first_of_digits, second_of_digits = individuals[from_individual + individual]
        first = -(first_of_day + first_of_digits) % 11
        second = -(second_of_day + second_of_digits + _FIRST_DIGIT_IN_SECOND * first) % 11
        if first < 10 and second < 10:
            yield f"{day}{digits}{first}{second}"


def _dates() -> Iterator[tuple[str, int, int, int]]:
    """Dates as identifiers begin with them, weighed, and the first individual number of each."""
    for days in range((_LAST_BIRTH - _FIRST_BIRTH).days + 1):
        birth = _FIRST_BIRTH + timedelta(days=days)
        first_individual = _FROM_1900 if birth.year < 2000 else _FROM_2000
        month_and_year = f"{birth.month + _SYNTHETIC_MONTH}{birth.year % 100:02}"
        yield *_weighed(f"{birth.day:02}{month_and_year}", 0), first_individual
        if days % _DATES_PER_D_NUMBER_DATE == 0:
            yield *_weighed(f"{birth.day + _D_NUMBER_DAY}{month_and_year}", 0), first_individual


def _weighed(digits: str, place: int) -> tuple[str, int, int]:
    """The digits, and what they add to the sums of the two control digits at this place."""
    first, second = (
        sum(int(digit) * weight for digit, weight in zip(digits, weights[place:], strict=False))
        for weights in (_FIRST_WEIGHTS, _SECOND_WEIGHTS)
    )
    return digits, first, second
