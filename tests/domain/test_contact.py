"""Which e-mail addresses and mobile numbers the register takes."""

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.contact import ContactKind, comparable, parse_email, parse_mobile
from server.domain.errors import InvalidValue, Reason
from server.domain.rules import MAX_EMAIL_LENGTH

ANY_TEXT = st.text() | st.text(st.characters(codec=None), max_size=40)
MOBILE_LIKE = st.text("+0123456789-_ ", min_size=3, max_size=21) | st.builds(
    "{}{}".format, st.sampled_from(["+47", "0047", "+46", "+1", ""]), st.text("0123456789", max_size=12)
)
EMAIL_LIKE = st.emails() | st.builds(
    "{}@{}.{}".format,
    st.text(min_size=1, max_size=8),
    st.text(min_size=1, max_size=8),
    st.sampled_from(["no", "com"]),
)


def refused(parse: Callable[[str], str], text: str) -> Reason | None:
    """Why the text is refused; None where it is taken."""
    try:
        parse(text)
    except InvalidValue as invalid:
        # The chain would carry what the citizen wrote into a log.
        assert invalid.__cause__ is None
        assert invalid.__suppress_context__ or invalid.__context__ is None
        return invalid.reason
    return None


@pytest.mark.parametrize(
    ("text", "mobile"),
    [
        ("91234567", "+4791234567"),
        ("41234567", "+4741234567"),
        ("+4791234567", "+4791234567"),
        ("004791234567", "+4791234567"),
        ("912 34 567", "+4791234567"),
        ("+47 912-34_567", "+4791234567"),
        ("9 1 2 3 4 5 6 7 ", "+4791234567"),
        ("+46701234567", "+46701234567"),
        ("0046701234567", "+46701234567"),
        ("+4520123456", "+4520123456"),
        ("+447400123456", "+447400123456"),
        # 555-01xx is kept for fiction.
        ("+14155550123", "+14155550123"),
        ("+39 312 345 6789", "+393123456789"),
    ],
)
def test_a_mobile_is_kept_as_e164(text: str, mobile: str) -> None:
    assert parse_mobile(text) == mobile


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("82012345", Reason.PREMIUM_RATE_NUMBER),
        ("829 12 345", Reason.PREMIUM_RATE_NUMBER),
        ("+4782012345", Reason.PREMIUM_RATE_NUMBER),
        ("004782912345", Reason.PREMIUM_RATE_NUMBER),
        ("112", Reason.SHORT_NUMBER),
        ("+870773111632", Reason.SATELLITE_NUMBER),
        ("00881651234567", Reason.SATELLITE_NUMBER),
        ("+979123456789", Reason.SATELLITE_NUMBER),
        ("1881", Reason.SHORT_NUMBER),
        ("02800", Reason.SHORT_NUMBER),
        ("116117", Reason.SHORT_NUMBER),
        ("1 8 8 1", Reason.SHORT_NUMBER),
        ("116-117", Reason.SHORT_NUMBER),
        ("580012345678", Reason.MACHINE_NUMBER),
        ("+47 5800 1234 5678", Reason.MACHINE_NUMBER),
        ("0047580012345678", Reason.MACHINE_NUMBER),
        ("59123456", Reason.MACHINE_NUMBER),
        ("+4759123456", Reason.MACHINE_NUMBER),
        ("22123456", Reason.NOT_A_MOBILE),
        ("+4755123456", Reason.NOT_A_MOBILE),
        ("80012345", Reason.NOT_A_MOBILE),
        ("+46812345678", Reason.NOT_A_MOBILE),
        ("", Reason.INVALID_MOBILE),
        ("12", Reason.INVALID_MOBILE),
        ("9123456", Reason.INVALID_MOBILE),
        ("912345678", Reason.INVALID_MOBILE),
        ("00000000", Reason.INVALID_MOBILE),
        ("--------", Reason.INVALID_MOBILE),
        ("        ", Reason.INVALID_MOBILE),
        ("+4791234567          ", Reason.INVALID_MOBILE),  # 21 characters
        ("+999123456789", Reason.INVALID_MOBILE),
        ("++4791234567", Reason.INVALID_MOBILE),
        ("+47+91234567", Reason.INVALID_MOBILE),
        ("91234567+", Reason.INVALID_MOBILE),
        ("(912)34567", Reason.INVALID_MOBILE),
        ("912.34.567", Reason.INVALID_MOBILE),
        ("91234567 ext 5", Reason.INVALID_MOBILE),
        ("91234567;ext=5", Reason.INVALID_MOBILE),
        ("tel:+4791234567", Reason.INVALID_MOBILE),
        ("1-800-FLOWERS", Reason.INVALID_MOBILE),
        ("+4791234567\n", Reason.INVALID_MOBILE),
        ("112\n", Reason.INVALID_MOBILE),
        ("91234567\0", Reason.INVALID_MOBILE),
        ("9123\xa04567", Reason.INVALID_MOBILE),
        ("9123–4567", Reason.INVALID_MOBILE),
        ("\u200e91234567", Reason.INVALID_MOBILE),
        ("＋4791234567", Reason.INVALID_MOBILE),
        ("９１２３４５６７", Reason.INVALID_MOBILE),
        ("٩١٢٣٤٥٦٧", Reason.INVALID_MOBILE),
        ("९१२३४५६७", Reason.INVALID_MOBILE),
    ],
)
def test_what_cannot_be_a_citizens_mobile_is_refused_with_its_reason(text: str, reason: Reason) -> None:
    assert refused(parse_mobile, text) is reason


@pytest.mark.parametrize(
    ("text", "email"),
    [
        ("ola@example.com", "ola@example.com"),
        ("Ola.Nordmann+krr@EXAMPLE.com", "Ola.Nordmann+krr@example.com"),
        ("kari@blåbær.no", "kari@blåbær.no"),
        ("kari@xn--blbr-roah.no", "kari@blåbær.no"),
        ("kari@BLÅBÆR.no", "kari@blåbær.no"),
        ("ha\u030akon@example.com", "håkon@example.com"),
        ("ола@example.com", "ола@example.com"),
        ("o'hara_1@sub.example.com", "o'hara_1@sub.example.com"),
    ],
)
def test_an_email_address_is_kept_in_its_normal_form(text: str, email: str) -> None:
    assert parse_email(text) == email


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "ola",
        "ola@",
        "@example.com",
        "ola@@example.com",
        "ola@example",
        "ola@localhost",
        "ola@server.local",
        "ola@example..com",
        "ola@example.com.",
        "ola@-example.com",
        "ola@exa_mple.com",
        ".ola@example.com",
        "ola.@example.com",
        "ola..nordmann@example.com",
        "ola nordmann@example.com",
        " ola@example.com",
        "ola@example.com ",
        "ola@example.com\n",
        "ola@example.com\r\nBcc: kari@example.com",
        "ola\r\n@example.com",
        "ola\0@example.com",
        "ola@example\0.com",
        "ola\t@example.com",
        "ola\u202e@example.com",
        '"ola nordmann"@example.com',
        '"ola@kari"@example.com',
        "ola(kommentar)@example.com",
        "Ola <ola@example.com>",
        "<ola@example.com>",
        "ola@example.com,kari@example.com",
        "ola@127.0.0.1",
        "ola@[127.0.0.1]",
        "ola@[IPv6:::1]",
        "mailto:ola@example.com?cc=kari@example.com",
    ],
)
def test_what_is_no_email_address_is_refused(text: str) -> None:
    assert refused(parse_email, text) is Reason.INVALID_EMAIL


def test_an_email_address_has_at_most_254_characters() -> None:
    label = "a" * 60
    longest = f"{'x' * 7}@{label}.{label}.{label}.{label}.no"
    assert len(longest) == MAX_EMAIL_LENGTH == 254
    assert parse_email(longest) == longest
    assert refused(parse_email, f"x{longest}") is Reason.INVALID_EMAIL
    assert refused(parse_email, "x" * 1_000_000 + "@example.com") is Reason.INVALID_EMAIL


@given(ANY_TEXT | MOBILE_LIKE)
def test_any_text_is_a_mobile_in_e164_or_refused(text: str) -> None:
    if refused(parse_mobile, text) is None:
        mobile = parse_mobile(text)
        assert mobile[0] == "+"
        assert mobile[1:].isascii()
        assert mobile[1:].isdigit()
        assert parse_mobile(mobile) == mobile


@given(ANY_TEXT | EMAIL_LIKE)
def test_any_text_is_an_email_address_in_its_normal_form_or_refused(text: str) -> None:
    if refused(parse_email, text) is None:
        email = parse_email(text)
        assert len(email) <= MAX_EMAIL_LENGTH
        assert email.isprintable()
        assert parse_email(email) == email


def compared_email(text: str) -> str:
    return comparable(ContactKind.EMAIL, parse_email(text))


def compared_mobile(text: str) -> str:
    return comparable(ContactKind.MOBILE, parse_mobile(text))


@pytest.mark.parametrize(
    "text",
    [
        "ÅSE@blåbær.no",
        "åse@BLÅBÆR.no",
        "a\u030ase@bla\u030abær.no",
        "A\u030aSE@blåbær.no",
        "åse@xn--blbr-roah.no",
        "Åse@XN--BLBR-ROAH.no",
    ],
)
def test_email_addresses_are_compared_whatever_their_case_and_way_of_writing(text: str) -> None:
    assert compared_email(text) == compared_email("åse@blåbær.no")


@pytest.mark.parametrize(
    "text",
    ["ola.nordmann@example.com", "ola+krr@example.com", "ola@sub.example.com", "ola@example.org"],
)
def test_email_addresses_with_dots_or_plus_are_others(text: str) -> None:
    assert compared_email(text) != compared_email("ola@example.com")
    assert compared_email(text) != compared_email("olanordmann@example.com")


@pytest.mark.parametrize("text", ["91234567", "004791234567", "912 34 567", "+47 912-34_567"])
def test_mobiles_are_compared_in_e164(text: str) -> None:
    assert compared_mobile(text) == "+4791234567"
    assert compared_mobile(text) != compared_mobile("41234567")


@given(
    st.emails()
    | st.builds(
        "{}@example.com".format, st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=5)
    )
)
def test_an_email_address_is_the_same_in_capitals_in_small_letters_and_decomposed(email: str) -> None:
    if refused(parse_email, email) is None:
        compared = compared_email(email)
        # In capitals the Turkish i without dot is the other i.
        capitals = email if "ı" in email else email.upper()
        for text in (compared, capitals, email.casefold(), unicodedata.normalize("NFD", email)):
            if refused(parse_email, text) is None:
                assert compared_email(text) == compared


@given(st.text("abAB.+å", min_size=1, max_size=3), st.text("abAB.+å", min_size=1, max_size=3))
def test_two_email_addresses_are_the_same_only_where_they_differ_in_case_alone(one: str, other: str) -> None:
    texts = [f"{local}@example.com" for local in (one, other)]
    if not any(refused(parse_email, text) for text in texts):
        assert (compared_email(texts[0]) == compared_email(texts[1])) == (one.lower() == other.lower())
