"""The texts to people: short enough, whole, and not to be forged by a value."""

import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

from adapters.texts import UnknownText, render

# 3GPP TS 23.038: the default alphabet, one septet each, and its extension, two each.
GSM7 = set(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_EXTENSION = set("^{}\\[~]|€")

LANGUAGES = [person_pb2.LANGUAGE_NB, person_pb2.LANGUAGE_NN, person_pb2.LANGUAGE_EN, person_pb2.LANGUAGE_SE]


def chosen(language: person_pb2.Language.ValueType, operator_name: str) -> pb.Message:
    return pb.Message(kind=pb.MESSAGE_KIND_MAILBOX_CHOSEN, language=language, operator_name=operator_name)


def sms_parts(text: str) -> int:
    if set(text) <= GSM7 | GSM7_EXTENSION:
        septets = len(text) + sum(letter in GSM7_EXTENSION for letter in text)
        return 1 if septets <= 160 else -(-septets // 153)
    units = len(text.encode("utf-16-be")) // 2
    return 1 if units <= 70 else -(-units // 67)


@pytest.mark.parametrize("operator_name", ["Digipost", "e-Boks"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_names_the_operator_in_one_part_or_two_in_northern_sami(
    language: person_pb2.Language.ValueType, operator_name: str
) -> None:
    text = render(chosen(language, operator_name))
    assert operator_name in text
    assert "{" not in text
    assert "\n" not in text
    assert sms_parts(text) == (2 if language == person_pb2.LANGUAGE_SE else 1)


def test_the_languages_differ() -> None:
    texts = {render(chosen(language, "Digipost")) for language in LANGUAGES}
    assert len(texts) == len(LANGUAGES)
    assert render(chosen(person_pb2.LANGUAGE_NN, "Digipost")).startswith("Du har valt Digipost ")


@pytest.mark.parametrize(
    "forged", ["Digi\r\npost", "Digi\x00post", "Digi\u202epost", "Digi\u2028post", "Digi\tpost"]
)
def test_a_control_character_in_a_value_becomes_a_space(forged: str) -> None:
    assert render(chosen(person_pb2.LANGUAGE_NB, forged)).startswith("Du har valgt Digi post som")


def test_a_value_is_no_template() -> None:
    assert "{{ 7 * 7 }}" in render(chosen(person_pb2.LANGUAGE_NB, "{{ 7 * 7 }}"))


@pytest.mark.parametrize(
    "message",
    [
        pb.Message(kind=pb.MESSAGE_KIND_MAILBOX_CHOSEN),
        pb.Message(language=person_pb2.LANGUAGE_NB),
        pb.Message(kind=99, language=person_pb2.LANGUAGE_NB),  # type: ignore[arg-type]  # a newer register's
        pb.Message(kind=pb.MESSAGE_KIND_MAILBOX_CHOSEN, language=99),  # type: ignore[arg-type]  # likewise
    ],
)
def test_a_message_without_a_text_says_so(message: pb.Message) -> None:
    with pytest.raises(UnknownText):
        render(message)
