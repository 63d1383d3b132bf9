"""The letter on paper: what it says, and where its address stands."""

import io
from collections.abc import Sequence
from datetime import date
from typing import Any

import pdfplumber
import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

from adapters.letter.page import MEASURES, pdf_of, text_of
from adapters.texts import UnknownText
from tests.adapters.letter_sandbox import letter_message

_MM = 72 / 25.4
ADDRESS = ["Åse Ørn", "Trollsteinåsvingen 7", "9999 EVENTYRØYA"]
LANGUAGES = [value for value in person_pb2.Language.values() if value]
CONTACTS = person_pb2.ContactKind.values()

# What may show through a C5 window, as the folded sheet slides in it: above and below is something else.
_SHOWS_FROM, _SHOWS_TO = 30, 79


def pdf(message: pb.Message | None = None, address: Sequence[str] = ADDRESS, **other: Any) -> bytes:
    values = {
        "sender": "Digitaliseringsdirektoratet",
        "return_address": "Postboks 1382 Vika, 0114 Oslo",
        "written": date(2026, 11, 2),
        **other,
    }
    return pdf_of(text_of(message or letter_message()), address, **values)


class Page:
    """The only page of a PDF; lengths in millimetres."""

    def __init__(self, content: bytes) -> None:
        with pdfplumber.open(io.BytesIO(content)) as document:
            assert len(document.pages) == 1
            page = document.pages[0]
            self.size = (round(page.width / _MM), round(page.height / _MM))
            self.text = page.extract_text()
            self.characters = [
                (each["text"], *(each[edge] / _MM for edge in ("x0", "top", "x1", "bottom")))
                for each in page.chars
            ]
            window = page.crop((15 * _MM, _SHOWS_FROM * _MM, 120 * _MM, _SHOWS_TO * _MM))
            # Finer than usual: lines of tiny letters are lines too.
            self.in_window = window.extract_text(x_tolerance=1.5, y_tolerance=1)


# What shows there in any case.
_SURELY_FROM, _SURELY_TO = (15, 44), (101, 66)


def assert_the_address_is_in_its_field(page: Page) -> None:
    shown = [each for each in page.characters if each[4] > _SHOWS_FROM and each[2] < _SHOWS_TO]
    assert shown
    assert min(each[1] for each in shown) >= _SURELY_FROM[0]
    assert max(each[3] for each in shown) <= _SURELY_TO[0]
    assert min(each[2] for each in shown) >= _SURELY_FROM[1]
    assert max(each[4] for each in shown) <= _SURELY_TO[1]


@pytest.mark.parametrize("contact", CONTACTS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_in_every_language_one_a4_page_names_the_day_and_shows_only_the_address_in_the_window(
    language: person_pb2.Language.ValueType, contact: person_pb2.ContactKind.ValueType
) -> None:
    page = Page(pdf(letter_message(language=language, contact_kind=contact)))
    assert page.size == (210, 297)
    assert page.in_window.splitlines() == ADDRESS
    assert_the_address_is_in_its_field(page)
    assert "2090" in page.text
    assert "norge.no" in page.text
    assert "{" not in page.text
    # Nothing runs over the edges; a full stop may hang a little.
    assert max(each[3] for each in page.characters) <= 210 - MEASURES["margin_right"] + 2
    assert max(each[4] for each in page.characters) <= 297 - MEASURES["margin_bottom"] + 0.5


def test_letters_of_all_languages_of_norway_are_in_the_font() -> None:
    every = "æøå ÆØÅ áčđŋšŧž ÁČĐŊŠŦŽ éèüöäß"
    page = Page(pdf(address=[every, "9999 TROLLVÅG"]))
    assert page.in_window.splitlines()[0] == every


@pytest.mark.parametrize(
    ("language", "day"),
    [
        (person_pb2.LANGUAGE_NB, "1. desember 2090"),
        (person_pb2.LANGUAGE_NN, "1. desember 2090"),
        (person_pb2.LANGUAGE_EN, "1 December 2090"),
        (person_pb2.LANGUAGE_SE, "juovlamánu 1. b. 2090"),
    ],
)
def test_the_day_is_written_out(language: person_pb2.Language.ValueType, day: str) -> None:
    assert day in Page(pdf(letter_message(language=language))).text


@pytest.mark.parametrize(
    ("contact", "named", "not_named"),
    [
        (person_pb2.CONTACT_KIND_EMAIL, ["e-postadresse"], ["mobilnummer"]),
        (person_pb2.CONTACT_KIND_MOBILE, ["mobilnummer"], ["e-postadresse"]),
        (person_pb2.CONTACT_KIND_UNSPECIFIED, ["e-postadresse", "mobilnummer"], []),
    ],
)
def test_the_letter_is_about_what_is_shared_and_nothing_else(
    contact: person_pb2.ContactKind.ValueType, named: list[str], not_named: list[str]
) -> None:
    page = Page(pdf(letter_message(contact_kind=contact)))
    assert all(word in page.text for word in named)
    assert not any(word in page.text for word in not_named)
    assert "1. desember 2090" in page.text


@pytest.mark.parametrize(
    "address",
    [
        ["#panic() $x^2$ *fet* _kursiv_ \\ `kode` <script>alert(1)</script> @ref // x", "9999 TROLLVÅG"],
        ['"} #sys.inputs {"', "= Overskrift", "- liste", "9999 TROLLVÅG"],
        ["Linje\n\n\n\n\nskift\r\n\tog\u2028mer\x00", "9999 TROLLVÅG"],
        ["Wolfeschlegelsteinhausenbergerdorff" * 3, "W" * 500, "9999 TROLLVÅG"],
        [f"Linje {number}" for number in range(60)],
        ["Å" * 99] * 7,
    ],
)
def test_whatever_a_name_or_an_address_holds_it_stays_in_its_field_on_one_page(address: list[str]) -> None:
    hostile, plain = Page(pdf(address=address)), Page(pdf())
    assert_the_address_is_in_its_field(hostile)
    assert len(hostile.in_window.splitlines()) == min(len(address), 7)

    def elsewhere(page: Page) -> list[Any]:
        return [each for each in page.characters if each[2] > _SHOWS_TO or each[4] < _SHOWS_FROM]

    assert elsewhere(hostile) == elsewhere(plain)


def test_markup_is_printed_as_it_was_written() -> None:
    name = "#let *x* $y$ \\ <script>"
    assert Page(pdf(address=[name, "9999 TROLLVÅG"])).in_window.splitlines()[0] == name


def test_nothing_that_names_the_person_besides_the_address_is_in_the_letter() -> None:
    message = letter_message(recipient="ola@example.com")
    content = pdf(message)
    for value in (message.identifier, message.recipient, message.message_id):
        assert value.encode() not in content
        assert value not in Page(content).text


def test_the_same_letter_has_the_same_bytes_and_another_has_others() -> None:
    message = letter_message()
    assert pdf(message) == pdf(message)
    assert pdf(message) != pdf(message, ["Kari Ål", "9999 TROLLVÅG"])


@pytest.mark.parametrize(
    "unknown",
    [
        {"kind": pb.MESSAGE_KIND_MAILBOX_CHOSEN},
        {"kind": 99},
        {"language": 99},
        {"contact_kind": 99},
        {"deadline_date": ""},
    ],
)
def test_what_only_newer_programs_know_is_no_letter(unknown: dict[str, Any]) -> None:
    with pytest.raises(UnknownText):
        text_of(letter_message(**unknown))
