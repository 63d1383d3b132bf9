"""Which numbers and addresses the register takes."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import (
    PersonIdentifier,
    is_synthetic,
    parse_mailbox_address,
    parse_organisation_number,
    parse_person_identifier,
)
from tests.people import DIGIPOST, EBOKS, KARI, OLA, PUBLIC_BODY, identifier

TODAY = date(2026, 11, 22)
LAST_DAY_OF_THE_OLD_RULE = date(2031, 12, 31)
FIRST_DAY_OF_THE_NEW_RULE = date(2032, 1, 1)

# docs.digdir.no, "KRR testbrukere": synthetic persons, month + 80.
PUBLISHED = [
    "01814797763",
    "04846697271",
    "06828498159",
    "11822648950",
    "11887197158",
    "12869699835",
    "16867096934",
    "17894199350",
    "18868299939",
    "18886799280",
    "22859197810",
    "23837998492",
    "25887098029",
    "26826499361",
    "26866595592",
    "29890749036",
    "30850649509",
    "31855699330",
]


def parse(text: str, *, accept_synthetic: bool = True, today: date = TODAY) -> PersonIdentifier:
    return parse_person_identifier(text, accept_synthetic=accept_synthetic, today=today)


def refusal(text: str, *, accept_synthetic: bool = True, today: date = TODAY) -> Reason | None:
    """Why the identifier is refused; None where it is taken."""
    try:
        parse(text, accept_synthetic=accept_synthetic, today=today)
    except InvalidValue as invalid:
        return invalid.reason
    return None


def nobodys(day: int, month: int, year: int, *, relaxed_remainder: int = 0) -> str:
    """An identifier that can't belong to anyone yet, by day and month as they stand in it.

    Individual numbers 500 to 999 with year 30 to 39 are for persons born 2030 to 2039.
    """
    assert 30 <= year <= 39
    found = (
        identifier(day, month, year, individual, relaxed_remainder=relaxed_remainder)
        for individual in range(500, 1000)
    )
    return next(each for each in found if each)


def controlled(day: int, month: int, year: int) -> str:
    """Right control digits on any day and month: for dates and forms that no one can have."""
    found = (identifier(day, month, year, individual) for individual in range(500, 1000))
    return next(each for each in found if each)


@pytest.mark.parametrize("published", PUBLISHED)
def test_a_published_test_person_is_taken_only_where_synthetic_persons_are(published: str) -> None:
    assert parse(published) == published
    assert is_synthetic(parse(published))
    assert refusal(published, accept_synthetic=False) is Reason.SYNTHETIC_IDENTIFIER


@given(
    published=st.sampled_from(PUBLISHED),
    position=st.integers(0, 8),
    digit=st.sampled_from("0123456789"),
    today=st.sampled_from([TODAY, FIRST_DAY_OF_THE_NEW_RULE]),
)
def test_one_wrong_digit_before_the_control_digits_is_always_found(
    published: str, position: int, digit: str, today: date
) -> None:
    if published[position] != digit:
        mistyped = published[:position] + digit + published[position + 1 :]
        assert refusal(mistyped, today=today) is Reason.INVALID_IDENTIFIER


@pytest.mark.parametrize("today", [TODAY, FIRST_DAY_OF_THE_NEW_RULE])
def test_a_wrong_control_digit_is_always_found(today: date) -> None:
    for published in PUBLISHED:
        for position in (9, 10):
            others = set("0123456789") - {published[position]}
            for digit in others:
                mistyped = published[:position] + digit + published[position + 1 :]
                assert refusal(mistyped, today=today) is Reason.INVALID_IDENTIFIER


def test_a_wrong_identifier_of_synthetic_form_is_called_invalid_and_not_synthetic() -> None:
    assert refusal(OLA[:-1] + "1", accept_synthetic=False) is Reason.INVALID_IDENTIFIER


def test_an_identifier_that_is_not_synthetic_is_taken_everywhere() -> None:
    citizen = nobodys(17, 5, 34)
    assert parse(citizen, accept_synthetic=False) == citizen
    assert not is_synthetic(parse(citizen))


@pytest.mark.parametrize("day", [41, 57, 71])
def test_a_d_number_has_forty_added_to_the_day(day: int) -> None:
    assert refusal(nobodys(day, 5, 34), accept_synthetic=False) is None
    assert refusal(nobodys(day, 85, 34)) is None
    assert refusal(nobodys(day, 85, 34), accept_synthetic=False) is Reason.SYNTHETIC_IDENTIFIER


@pytest.mark.parametrize("month", [13, 20, 40, 41, 45, 52, 53, 65, 66, 70, 77, 80, 93, 99])
@pytest.mark.parametrize("day", [5, 45])
def test_months_of_other_synthetic_forms_are_refused(day: int, month: int) -> None:
    assert refusal(controlled(day, month, 34)) is Reason.INVALID_IDENTIFIER


@pytest.mark.parametrize(
    ("day", "month", "year"),
    [
        (0, 85, 34),
        (32, 85, 34),
        (40, 85, 34),
        (72, 85, 34),
        (81, 85, 34),
        (31, 84, 34),
        (71, 84, 34),
        (30, 82, 36),
        (29, 82, 35),
        (69, 82, 35),
        (1, 0, 34),
        (99, 99, 99),
    ],
)
def test_a_day_that_no_calendar_has_is_refused(day: int, month: int, year: int) -> None:
    assert refusal(controlled(day, month, year)) is Reason.INVALID_IDENTIFIER


@pytest.mark.parametrize("year", [0, 4, 36, 96])
@pytest.mark.parametrize("day", [29, 69])
def test_the_leap_day_is_taken_in_leap_years_and_in_the_year_00(day: int, year: int) -> None:
    assert refusal(controlled(day, 82, year)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        OLA[:10],
        OLA + "0",
        "00000000000",
        "99999999999",
        f" {OLA}",
        f"{OLA} ",
        f"{OLA}\n",
        f"{OLA[:6]} {OLA[6:]}",
        f"{OLA[:6]}-{OLA[6:]}",
        OLA[:10] + "\0",
        f"{OLA}\0",
        f"+{OLA[1:]}",
        OLA.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
        OLA.translate(str.maketrans("0123456789", "０１２３４５６７８９")),
        OLA.replace("8", "８"),
        "elleve tall",
    ],
)
def test_an_identifier_is_eleven_ascii_digits_and_nothing_else(text: str) -> None:
    assert refusal(text) is Reason.INVALID_IDENTIFIER


@pytest.mark.parametrize("remainder", [1, 2, 3])
@pytest.mark.parametrize(("day", "month"), [(17, 5), (57, 5), (17, 85), (57, 85)])
def test_the_relaxed_control_digit_is_taken_from_2032_and_not_before(
    day: int, month: int, remainder: int
) -> None:
    relaxed = nobodys(day, month, 34, relaxed_remainder=remainder)
    assert refusal(relaxed, today=LAST_DAY_OF_THE_OLD_RULE) is Reason.INVALID_IDENTIFIER
    assert refusal(relaxed, today=FIRST_DAY_OF_THE_NEW_RULE) is None


@pytest.mark.parametrize("remainder", range(4, 11))
def test_no_other_remainder_is_taken_from_2032(remainder: int) -> None:
    relaxed = nobodys(17, 5, 34, relaxed_remainder=remainder)
    assert refusal(relaxed, today=FIRST_DAY_OF_THE_NEW_RULE) is Reason.INVALID_IDENTIFIER


@pytest.mark.parametrize("remainder", range(4))
def test_the_second_control_digit_is_as_strict_from_2032_as_before(remainder: int) -> None:
    relaxed = nobodys(17, 5, 34, relaxed_remainder=remainder)
    for digit in set("0123456789") - {relaxed[10]}:
        assert refusal(relaxed[:10] + digit, today=FIRST_DAY_OF_THE_NEW_RULE) is Reason.INVALID_IDENTIFIER


def test_identifiers_of_the_old_rule_stay_valid_from_2032() -> None:
    for published in PUBLISHED:
        assert refusal(published, today=FIRST_DAY_OF_THE_NEW_RULE) is None


@given(st.text(max_size=13) | st.text("0123456789", min_size=11, max_size=11))
def test_any_text_is_taken_as_it_stands_or_refused_as_an_identifier(text: str) -> None:
    assert refusal(text) in (None, Reason.INVALID_IDENTIFIER)


@pytest.mark.parametrize("number", [DIGIPOST, EBOKS, PUBLIC_BODY, "996460320"])
def test_a_published_organisation_number_is_taken(number: str) -> None:
    assert parse_organisation_number(number) == number


@pytest.mark.parametrize(
    "text",
    ["", DIGIPOST[:8], f"{DIGIPOST}0", f"{DIGIPOST}\n", f" {DIGIPOST}", "984 661 185", f"0192:{DIGIPOST}"]
    + ["٩٨٤٦٦١١٨٥", "９８４６６１１８５", "98466118\0", KARI]
    + [DIGIPOST[:8] + digit for digit in "012346789"],
)
def test_anything_else_is_no_organisation_number(text: str) -> None:
    with pytest.raises(InvalidValue, match="INVALID_ORGANISATION_NUMBER"):
        parse_organisation_number(text)


@given(position=st.integers(0, 8), digit=st.sampled_from("0123456789"))
def test_one_wrong_digit_in_an_organisation_number_is_always_found(position: int, digit: str) -> None:
    if DIGIPOST[position] != digit:
        with pytest.raises(InvalidValue, match="INVALID_ORGANISATION_NUMBER"):
            parse_organisation_number(DIGIPOST[:position] + digit + DIGIPOST[position + 1 :])


@pytest.mark.parametrize("text", ["ola.nordmann#9YDT", "12345678", "x" * 100, "å" * 100, "kari nordmann"])
def test_a_mailbox_address_is_taken_as_it_stands(text: str) -> None:
    assert parse_mailbox_address(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1234567",
        "x" * 101,
        " 12345678",
        "12345678 ",
        "        ",
        *(f"1234{character}5678" for character in "\0\t\r\n\x7f\x85\xa0\u200b\u2028\u202e\ud800"),
    ],
)
def test_a_mailbox_address_has_8_to_100_printable_characters(text: str) -> None:
    with pytest.raises(InvalidValue, match="INVALID_MAILBOX_ADDRESS"):
        parse_mailbox_address(text)
