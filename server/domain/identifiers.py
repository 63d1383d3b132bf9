"""Numbers and addresses that name persons, organisations and mailboxes."""

import re
from collections.abc import Sequence
from datetime import date
from typing import NewType

from server.domain.errors import InvalidValue, Reason
from server.domain.rules import MAILBOX_ADDRESS_LENGTH, RELAXED_CONTROL_DIGIT_FROM

PersonIdentifier = NewType("PersonIdentifier", str)
OrganisationNumber = NewType("OrganisationNumber", str)
MailboxAddress = NewType("MailboxAddress", str)

# Skatteetaten, "Fødselsnummer": weights of the two control digits.
_FIRST_WEIGHTS = (3, 7, 6, 1, 8, 9, 4, 5, 2)
_SECOND_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
# Brønnøysundregistrene, "Organisasjonsnummeret".
_ORGANISATION_WEIGHTS = (3, 2, 7, 6, 5, 4, 3, 2)

_D_NUMBER_DAY = 40
_SYNTHETIC_MONTH = 80


def parse_person_identifier(text: str, *, accept_synthetic: bool, today: date) -> PersonIdentifier:
    """Read a fødselsnummer or D-number: 11 ASCII digits, a possible date, right control digits.

    accept_synthetic: whether test persons (month + 80) are taken.
    today: decides whether the relaxed control digit of 2032 is taken.

    Raises InvalidValue: INVALID_IDENTIFIER, or SYNTHETIC_IDENTIFIER for one that is right
    but not taken here.
    """
    if not re.fullmatch(r"[0-9]{11}", text):
        raise InvalidValue(Reason.INVALID_IDENTIFIER)
    digits = [int(digit) for digit in text]
    day, month, year = int(text[0:2]), int(text[2:4]), int(text[4:6])
    synthetic = month > _SYNTHETIC_MONTH
    remainders = {0} if today < RELAXED_CONTROL_DIGIT_FROM else {0, 1, 2, 3}
    if not (
        _is_date(
            day - _D_NUMBER_DAY if day > _D_NUMBER_DAY else day,
            month - _SYNTHETIC_MONTH if synthetic else month,
            year,
        )
        and (_weighted(digits, _FIRST_WEIGHTS) + digits[9]) % 11 in remainders
        and (_weighted(digits, _SECOND_WEIGHTS) + digits[10]) % 11 == 0
    ):
        raise InvalidValue(Reason.INVALID_IDENTIFIER)
    if synthetic and not accept_synthetic:
        raise InvalidValue(Reason.SYNTHETIC_IDENTIFIER)
    return PersonIdentifier(text)


def is_synthetic(identifier: PersonIdentifier) -> bool:
    """Whether the identifier belongs to a test person, not to anybody who lives."""
    return int(identifier[2:4]) > _SYNTHETIC_MONTH


def parse_organisation_number(text: str) -> OrganisationNumber:
    """Read an organisation number: 9 ASCII digits, the last one a mod-11 control digit.

    Raises InvalidValue: INVALID_ORGANISATION_NUMBER.
    """
    if re.fullmatch(r"[0-9]{9}", text):
        digits = [int(digit) for digit in text]
        if (_weighted(digits, _ORGANISATION_WEIGHTS) + digits[8]) % 11 == 0:
            return OrganisationNumber(text)
    raise InvalidValue(Reason.INVALID_ORGANISATION_NUMBER)


def parse_mailbox_address(text: str) -> MailboxAddress:
    """Read a mailbox address: opaque, but of the published length and printable.

    Raises InvalidValue: INVALID_MAILBOX_ADDRESS.
    """
    if len(text) not in MAILBOX_ADDRESS_LENGTH or not text.isprintable() or text != text.strip():
        raise InvalidValue(Reason.INVALID_MAILBOX_ADDRESS)
    return MailboxAddress(text)


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def _is_date(day: int, month: int, year: int) -> bool:
    # The century cannot be told, so any year that is a leap year in some century passes;
    # year 00 is one (2000).
    try:
        date(2000 + year, month, day)
    except ValueError:
        return False
    return True
