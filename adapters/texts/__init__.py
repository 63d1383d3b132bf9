"""What messages to people say, one file for each kind and language: <kind>.<language>.txt."""

from pathlib import Path

import jinja2
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

_texts = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    undefined=jinja2.StrictUndefined,
    # Plain text, for no browser.
    autoescape=False,
)


class UnknownText(Exception):
    """There is no text for this kind of message in this language here."""


def render(message: pb.Message) -> str:
    """What the message says, in one line.

    Raises UnknownText, such as for a kind that only newer programs know.
    """
    try:
        kind = pb.MessageKind.Name(message.kind).removeprefix("MESSAGE_KIND_").lower()
        language = person_pb2.Language.Name(message.language).removeprefix("LANGUAGE_").lower()
        template = _texts.get_template(f"{kind}.{language}.txt")
    except (ValueError, jinja2.TemplateNotFound):
        raise UnknownText from None
    return template.render(operator_name=_printable(message.operator_name))


def _printable(value: str) -> str:
    """The value without line breaks and other control characters, which could forge a text."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in value).split())
