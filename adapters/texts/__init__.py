"""What messages to people say by SMS and e-mail: a file for each kind, the four languages in it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import jinja2
from babel.dates import format_date
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

_FOLDER = Path(__file__).parent

# Plain text, for no browser.
_texts = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
_pages = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER), undefined=jinja2.StrictUndefined, autoescape=True
)


class UnknownText(Exception):
    """There is no text for this kind of message in this language here."""


@dataclass(frozen=True)
class EmailText:
    """What an e-mail says; text and html say the same."""

    subject: str
    text: str
    html: str


def render(message: pb.Message) -> str:
    """What the message says by SMS, in one line.

    Raises UnknownText, such as for a kind that only newer programs know.
    """
    _, texts, values = _of(message)
    return _rendered(texts["sms"], values)


def render_email(message: pb.Message) -> EmailText:
    """What the message says by e-mail.

    Raises UnknownText, such as for a kind that only newer programs know.
    """
    language, texts, values = _of(message)
    subject, body = _rendered(texts["subject"], values), _rendered(texts["email"].strip(), values)
    signature = _signatures()[language]
    html = _pages.get_template("email.html").render(
        language=language, subject=subject, paragraphs=body.split("\n\n"), signature=signature
    )
    return EmailText(subject, f"{body}\n\n-- \n{signature}\n", html)


def written_date(day: date, language: str) -> str:
    """The date as it stands in running text.

    language: a code such as "nb".
    """
    if language == "se":
        # CLDR has the year first and the month's name by itself: "2016 juovlamánnu 1".
        return format_date(day, "MMMM d. 'b.' y", locale="se").replace("mánnu", "mánu")
    return format_date(day, "long", locale="en_GB" if language == "en" else language)


def _of(message: pb.Message) -> tuple[str, Mapping[str, str], Mapping[str, str]]:
    """The language, the texts and the values that may stand in them."""
    try:
        kind = pb.MessageKind.Name(message.kind).removeprefix("MESSAGE_KIND_").lower()
        language = person_pb2.Language.Name(message.language).removeprefix("LANGUAGE_").lower()
        texts = _read(kind)[language]
        deadline = date.fromisoformat(message.deadline_date) if message.deadline_date else None
    except (ValueError, KeyError, FileNotFoundError):
        raise UnknownText from None
    values = {
        "operator_name": _printable(message.operator_name),
        "verification_code": _printable(message.verification_code),
        "case_count": str(message.case_count),
    }
    if deadline:
        values["deadline"] = written_date(deadline, language)
    return language, texts, {name: value for name, value in values.items() if value}


def _rendered(text: str, values: Mapping[str, str]) -> str:
    try:
        return _texts.from_string(text).render(values)
    except jinja2.UndefinedError:
        # The register did not say what stands in it.
        raise UnknownText from None


@cache
def _read(kind: str) -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads((_FOLDER / f"{kind}.toml").read_text())


@cache
def _signatures() -> Mapping[str, str]:
    return tomllib.loads((_FOLDER / "signature.toml").read_text())


def _printable(value: str) -> str:
    """The value without line breaks and other control characters, which could forge a text."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
