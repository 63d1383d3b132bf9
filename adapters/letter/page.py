"""The letter as a PDF."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import jinja2
import typst
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

from adapters.texts import UnknownText, written_date

# In millimetres on the A4 sheet, from its left and upper edge.
# A left window in a Norwegian C5 envelope begins 15 mm from the left and 44 mm from the top, and is
# 105 mm x 35 mm (https://officeconsult.no/blogg/brevmaler-plassering-av-mottakerfelt-i-vinduskonvolutter/).
# The folded sheet is 13 mm lower and 19 mm narrower than the envelope, and slides. From 15 mm to 101 mm
# and from 44 mm to 66 mm it shows wherever it lies: there is the address. From 31 mm to 79 mm it may show:
# there is nothing else.
MEASURES = {
    "margin_left": 20,
    "margin_right": 25,
    "margin_top": 14,
    "margin_bottom": 20,
    "address_left": 20,
    "address_top": 45,
    "address_width": 80,
    "address_height": 20,
    "text_top": 92,
    "fold_top": 148.5,
}

# The texts are ours and fit; values that come from elsewhere stand in the address field only, which
# shrinks them.
PAGES = 1

_MOST_LINES = 7
_LONGEST_LINE = 70

_texts = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    # Plain text, for no browser.
    autoescape=False,
)

_CONTACTS = {
    person_pb2.CONTACT_KIND_UNSPECIFIED: "both",
    person_pb2.CONTACT_KIND_EMAIL: "email",
    person_pb2.CONTACT_KIND_MOBILE: "mobile",
}


@dataclass(frozen=True)
class Text:
    """What a letter says.

    language: a code such as "nb".
    """

    language: str
    subject: str
    paragraphs: Sequence[str]


def text_of(message: pb.Message) -> Text:
    """What the message says on paper.

    Raises UnknownText, such as for a kind that only newer programs know.
    """
    try:
        kind = pb.MessageKind.Name(message.kind).removeprefix("MESSAGE_KIND_").lower()
        language = person_pb2.Language.Name(message.language).removeprefix("LANGUAGE_").lower()
        template = _texts.get_template(f"{kind}.{language}.txt")
        contact = _CONTACTS[message.contact_kind]
        deadline = date.fromisoformat(message.deadline_date)
    except (KeyError, ValueError, jinja2.TemplateNotFound):
        raise UnknownText from None
    subject, *paragraphs = template.render(contact=contact, deadline=written_date(deadline, language)).split(
        "\n\n"
    )
    return Text(language, subject.strip(), [paragraph.strip() for paragraph in paragraphs])


def pdf_of(text: Text, address: Sequence[str], *, sender: str, return_address: str, written: date) -> bytes:
    """The letter, one A4 page; the same bytes for the same values.

    address: lines for the window, the name first. Control characters become spaces, lines beyond
        the seventh are left out and a long one is cut; whatever is long is set smaller.
    return_address: in one line.
    written: the day that it is dated.
    """
    values = {
        "measures": MEASURES,
        "language": text.language,
        "subject": text.subject,
        "paragraphs": text.paragraphs,
        "address": [line for line in map(_printable, address) if line][:_MOST_LINES],
        "sender": _printable(sender),
        "return_address": _printable(return_address),
        "date": written_date(written, text.language),
    }
    compiler = typst.Compiler(
        _source(), font_paths=_fonts(), sys_inputs={"letter": json.dumps(values, ensure_ascii=False)}
    )
    pdf = compiler.compile(format="pdf")
    assert isinstance(pdf, bytes)
    return pdf


def _printable(line: str) -> str:
    seen = "".join(letter if letter.isprintable() else " " for letter in line)
    return " ".join(seen.split())[:_LONGEST_LINE]


@cache
def _source() -> bytes:
    return Path(__file__).with_name("letter.typ").read_bytes()


@cache
def _fonts() -> typst.Fonts:
    # Those in the library only: a letter looks the same on every machine.
    return typst.Fonts(include_system_fonts=False)
