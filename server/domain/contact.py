"""E-mail addresses and mobile numbers, and how long they may be used."""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import email_validator
import phonenumbers
from phonenumbers import PhoneNumberType

from server.domain.errors import InvalidValue, Reason
from server.domain.rules import MAX_EMAIL_LENGTH, MOBILE_LENGTH, STALE_AFTER_MONTHS, months_later

# Nkom, "Norsk nummerplan": 59 (8 digits) and 58 (12 digits) are for machines.
_MACHINE_NUMBER = r"59[0-9]{6}|58[0-9]{10}"

# Most values are written as these, which are read without the libraries' many steps: an import has
# millions. Whatever else is left to the libraries, and what is taken here they would take too.
# E-mail: a local part that has nothing to bring to a normal form.
_ORDINARY_EMAIL = re.compile(r"([a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*)@([a-zA-Z0-9.-]+)")
_LONGEST_LOCAL_PART = 64
# What phonenumbers calls codes such as +870 and +881 (satellites) and +979 (premium, everywhere).
_NO_COUNTRY = "001"
# Typed for places without numbers, too.
_NORWAY: Any = phonenumbers.PhoneMetadata.metadata_for_region("NO")
_ORDINARY_MOBILE = re.compile(
    rf"(?:\+47|0047)?(?!{_MACHINE_NUMBER})({_NORWAY.mobile.national_number_pattern})", re.ASCII
)


class ContactKind(StrEnum):
    """The two kinds of contact point."""

    EMAIL = "email"
    MOBILE = "mobile"


@dataclass(frozen=True, kw_only=True)
class ContactPoint:
    """One way to reach a person.

    updated: when the person last changed the value.
    confirmed: when the person last confirmed it unchanged.
    validated: when a one-time code last proved it.
    shared: whether the value stands on other persons too; counted soon after a change, and
        no part of what the person said.
    """

    value: str
    updated: datetime
    confirmed: datetime | None = None
    validated: datetime | None = None
    shared: bool = field(default=False, compare=False)

    @property
    def last_seen(self) -> datetime:
        """When the person last changed, confirmed or proved the value."""
        return max(filter(None, (self.updated, self.confirmed, self.validated)))

    @property
    def usable_until(self) -> datetime:
        """The last moment at which the value may be used for notices."""
        return months_later(self.last_seen, STALE_AFTER_MONTHS)

    def is_expired(self, now: datetime) -> bool:
        """Whether the value is too old for notices; it may still carry service messages."""
        return now > self.usable_until


def comparable(kind: ContactKind, value: str) -> str:
    """The form in which values are compared to find those that several persons share.

    E-mail addresses without regard to case, in either part; no rule for dots or plus. Both
    kinds as parse_email and parse_mobile gave them.
    """
    if kind is not ContactKind.EMAIL:
        return value
    return value.lower() if value.isascii() else unicodedata.normalize("NFC", value.casefold())


def parse_email(text: str) -> str:
    """Read an e-mail address and bring it to its normal form (NFC, domain in lower case).

    Raises InvalidValue: INVALID_EMAIL.
    """
    if len(text) > MAX_EMAIL_LENGTH:
        raise InvalidValue(Reason.INVALID_EMAIL, description=f"at most {MAX_EMAIL_LENGTH} characters")
    try:
        ordinary = _ORDINARY_EMAIL.fullmatch(text)
        if ordinary:
            local_part, domain = ordinary.groups()
            normal_domain = _normal_domain(domain)
            # One with other letters than it was written with may make the whole too long.
            if len(local_part) <= _LONGEST_LOCAL_PART and normal_domain.isascii():
                return f"{local_part}@{normal_domain}"
        return _validated(text).normalized
    except email_validator.EmailNotValidError:
        # Not chained: the library's message quotes the address.
        raise InvalidValue(Reason.INVALID_EMAIL) from None


def parse_mobile(text: str) -> str:
    """Read a mobile number, foreign ones included, and bring it to E.164.

    Takes what KRR takes: digits with "+", "-", "_" and spaces, 8 to 20 characters; without
    "+" or "00" in front it is Norwegian.

    Raises InvalidValue: INVALID_MOBILE, PREMIUM_RATE_NUMBER, SHORT_NUMBER, MACHINE_NUMBER,
    SATELLITE_NUMBER or NOT_A_MOBILE.
    """
    ordinary = _ORDINARY_MOBILE.fullmatch(text)
    if ordinary:
        return f"+47{ordinary[1]}"
    digits = re.sub(r"[- _]", "", text)
    if re.fullmatch(r"[0-9]{3,6}", digits):
        raise InvalidValue(Reason.SHORT_NUMBER)
    if not re.fullmatch(r"\+?[- _0-9]+", text) or len(text) not in MOBILE_LENGTH:
        raise InvalidValue(Reason.INVALID_MOBILE)
    try:
        number = phonenumbers.parse(digits, region="NO")
    except phonenumbers.NumberParseException:
        raise InvalidValue(Reason.INVALID_MOBILE) from None
    national = phonenumbers.national_significant_number(number)
    if number.country_code == 47 and re.fullmatch(_MACHINE_NUMBER, national):
        raise InvalidValue(Reason.MACHINE_NUMBER)
    if not phonenumbers.is_valid_number(number):
        raise InvalidValue(Reason.INVALID_MOBILE)
    if phonenumbers.region_code_for_number(number) == _NO_COUNTRY:
        raise InvalidValue(Reason.SATELLITE_NUMBER)
    match phonenumbers.number_type(number):
        case PhoneNumberType.MOBILE | PhoneNumberType.FIXED_LINE_OR_MOBILE:
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        case PhoneNumberType.PREMIUM_RATE | PhoneNumberType.SHARED_COST:
            raise InvalidValue(Reason.PREMIUM_RATE_NUMBER)
        case _:
            raise InvalidValue(Reason.NOT_A_MOBILE)


# Most addresses are at a few domains.
@lru_cache(maxsize=4096)
def _normal_domain(domain: str) -> str:
    return _validated(f"x@{domain}").domain


def _validated(text: str) -> email_validator.ValidatedEmail:
    return email_validator.validate_email(text, check_deliverability=False, strict=True)
