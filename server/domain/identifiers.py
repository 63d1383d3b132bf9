"""Numbers and addresses that name persons, organisations and mailboxes."""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import NewType

from server.domain.errors import InvalidValue, Reason
from server.domain.rules import MAILBOX_ADDRESS_LENGTH, RELAXED_CONTROL_DIGIT_FROM

PersonIdentifier = NewType("PersonIdentifier", str)
OrganisationNumber = NewType("OrganisationNumber", str)
MailboxAddress = NewType("MailboxAddress", str)

# Skatteetaten, "Fødselsnummer": weights of the two control sums, each with its control digit.
_FIRST_WEIGHTS = (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)
_SECOND_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)
# Brønnøysundregistrene, "Organisasjonsnummeret".
_ORGANISATION_WEIGHTS = (3, 2, 7, 6, 5, 4, 3, 2, 1)

_D_NUMBER_DAY = 40
_SYNTHETIC_MONTH = 80


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False)) % 11


# Batches have thousands of identifiers and imports millions, so the control sums are added up from
# tables: what each text that may stand in a part adds to the first sum, times 100, and the second.


def _sums(position: int, texts: Iterable[str]) -> dict[str, int]:
    return {
        text: 100 * _weighted(text, _FIRST_WEIGHTS[position:]) + _weighted(text, _SECOND_WEIGHTS[position:])
        for text in texts
    }


def _right_sums(remainders: Collection[int]) -> frozenset[int]:
    # Four parts add at most 10 each.
    return frozenset(
        100 * first + second for first in range(41) if first % 11 in remainders for second in range(0, 41, 11)
    )


_DAYS_AND_MONTHS = _sums(
    0,
    (
        f"{each.day + d_number:02}{each.month + synthetic:02}"
        for each in (date(2000, 1, 1) + timedelta(days=day) for day in range(366))
        for d_number in (0, _D_NUMBER_DAY)
        for synthetic in (0, _SYNTHETIC_MONTH)
    ),
)
_YEARS = _sums(4, (f"{year:02}" for year in range(100)))
_INDIVIDUAL_NUMBERS = _sums(6, (f"{number:03}" for number in range(1000)))
_CONTROL_DIGITS = _sums(9, (f"{digits:02}" for digits in range(100)))
_RIGHT = _right_sums({0})
_RIGHT_FROM_2032 = _right_sums({0, 1, 2, 3})
_LEAP_DAYS = {"2902", "6902", "2982", "6982"}


def parse_person_identifier(text: str, *, accept_synthetic: bool, today: date) -> PersonIdentifier:
    """Read a fødselsnummer or D-number: 11 ASCII digits, a possible date, right control digits.

    accept_synthetic: whether test persons (month + 80) are taken.
    today: decides whether the relaxed control digit of 2032 is taken.

    Raises InvalidValue: INVALID_IDENTIFIER, or SYNTHETIC_IDENTIFIER for one that is right
    but not taken here.
    """
    day_and_month, year = text[:4], text[4:6]
    try:
        sums = (
            _DAYS_AND_MONTHS[day_and_month]
            + _YEARS[year]
            + _INDIVIDUAL_NUMBERS[text[6:9]]
            + _CONTROL_DIGITS[text[9:]]
        )
    except KeyError:
        sums = None
    # The century cannot be told, so any year that is a leap year in some century passes;
    # year 00 is one (2000).
    if sums not in (_RIGHT if today < RELAXED_CONTROL_DIGIT_FROM else _RIGHT_FROM_2032) or (
        day_and_month in _LEAP_DAYS and int(year) % 4
    ):
        raise InvalidValue(Reason.INVALID_IDENTIFIER)
    identifier = PersonIdentifier(text)
    if not accept_synthetic and is_synthetic(identifier):
        raise InvalidValue(Reason.SYNTHETIC_IDENTIFIER)
    return identifier


def is_synthetic(identifier: PersonIdentifier) -> bool:
    """Whether the identifier belongs to a test person, not to anybody who lives."""
    return int(identifier[2:4]) > _SYNTHETIC_MONTH


# The same few, operators and callers, come with every row of an import and every call.
@lru_cache(maxsize=1024)
def parse_organisation_number(text: str) -> OrganisationNumber:
    """Read an organisation number: 9 ASCII digits, the last one a mod-11 control digit.

    Raises InvalidValue: INVALID_ORGANISATION_NUMBER.
    """
    if re.fullmatch(r"[0-9]{9}", text) and _weighted(text, _ORGANISATION_WEIGHTS) == 0:
        return OrganisationNumber(text)
    raise InvalidValue(Reason.INVALID_ORGANISATION_NUMBER)


def parse_mailbox_address(text: str) -> MailboxAddress:
    """Read a mailbox address: opaque, but of the published length and printable.

    Raises InvalidValue: INVALID_MAILBOX_ADDRESS.
    """
    if len(text) not in MAILBOX_ADDRESS_LENGTH or not text.isprintable() or text != text.strip():
        raise InvalidValue(Reason.INVALID_MAILBOX_ADDRESS)
    return MailboxAddress(text)
