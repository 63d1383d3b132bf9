"""What the domain reads by tables, patterns and memory, read the plain way: slow, and as the rules say it."""

import calendar
import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import email_validator
import phonenumbers
from phonenumbers import PhoneNumberType

from server.domain.errors import Reason

_NORWAY = ZoneInfo("Europe/Oslo")


def person_identifier(text: str, *, accept_synthetic: bool, today: date) -> str | Reason:
    """The identifier, or why it is refused."""
    if not re.fullmatch(r"[0-9]{11}", text):
        return Reason.INVALID_IDENTIFIER
    digits = [int(digit) for digit in text]
    day, month, year = int(text[0:2]), int(text[2:4]), int(text[4:6])
    synthetic = month > 80
    try:
        date(2000 + year, month - 80 if synthetic else month, day - 40 if day > 40 else day)
    except ValueError:
        return Reason.INVALID_IDENTIFIER
    first = sum(d * w for d, w in zip(digits[:10], (3, 7, 6, 1, 8, 9, 4, 5, 2, 1), strict=True))
    second = sum(d * w for d, w in zip(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1), strict=True))
    if first % 11 > (3 if today.year >= 2032 else 0) or second % 11:
        return Reason.INVALID_IDENTIFIER
    return Reason.SYNTHETIC_IDENTIFIER if synthetic and not accept_synthetic else text


def email(text: str) -> str | Reason:
    """The address in its normal form, or why it is refused."""
    if len(text) > 254:
        return Reason.INVALID_EMAIL
    try:
        return email_validator.validate_email(text, check_deliverability=False, strict=True).normalized
    except email_validator.EmailNotValidError:
        return Reason.INVALID_EMAIL


def mobile(text: str) -> str | Reason:
    """The number in E.164, or why it is refused."""
    digits = re.sub(r"[- _]", "", text)
    if re.fullmatch(r"[0-9]{3,6}", digits):
        return Reason.SHORT_NUMBER
    if not re.fullmatch(r"\+?[- _0-9]+", text) or not 8 <= len(text) <= 20:
        return Reason.INVALID_MOBILE
    try:
        number = phonenumbers.parse(digits, region="NO")
    except phonenumbers.NumberParseException:
        return Reason.INVALID_MOBILE
    national = phonenumbers.national_significant_number(number)
    if number.country_code == 47 and re.fullmatch(r"59[0-9]{6}|58[0-9]{10}", national):
        return Reason.MACHINE_NUMBER
    if not phonenumbers.is_valid_number(number):
        return Reason.INVALID_MOBILE
    if number.country_code in phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS:
        return Reason.SATELLITE_NUMBER
    match phonenumbers.number_type(number):
        case PhoneNumberType.MOBILE | PhoneNumberType.FIXED_LINE_OR_MOBILE:
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        case PhoneNumberType.PREMIUM_RATE | PhoneNumberType.SHARED_COST:
            return Reason.PREMIUM_RATE_NUMBER
    return Reason.NOT_A_MOBILE


def months_later(time: datetime, months: int) -> datetime:
    """The same wall-clock time in Norway so many calendar months later, in UTC."""
    local = time.astimezone(_NORWAY)
    years, month = divmod(local.month - 1 + months, 12)
    year, month = local.year + years, month + 1
    day = min(local.day, calendar.monthrange(year, month)[1])
    return local.replace(year=year, month=month, day=day).astimezone(UTC)
