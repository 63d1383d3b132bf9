"""The texts to people: short enough, whole, and not to be forged by a value."""

import itertools
import re
from email.message import EmailMessage
from html.parser import HTMLParser

import pytest
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

from adapters.sms.parts import split
from adapters.texts import UnknownText, render, render_email

LANGUAGES = [person_pb2.LANGUAGE_NB, person_pb2.LANGUAGE_NN, person_pb2.LANGUAGE_EN, person_pb2.LANGUAGE_SE]

# The shortest and the longest that can stand in each.
VALUES: dict[pb.MessageKind.ValueType, tuple[dict[str, object], dict[str, object]]] = {
    pb.MESSAGE_KIND_MAILBOX_CHOSEN: ({"operator_name": "e-Boks"}, {"operator_name": "Digipost"}),
    pb.MESSAGE_KIND_VERIFICATION_CODE: ({"verification_code": "000000"}, {"verification_code": "987654"}),
    pb.MESSAGE_KIND_CONTACT_CHANGED: ({}, {}),
    pb.MESSAGE_KIND_CONTACT_REMINDER: ({"deadline_date": "2027-05-01"}, {"deadline_date": "2027-09-30"}),
    pb.MESSAGE_KIND_CONTACT_EXPIRED: ({"deadline_date": "2027-05-01"}, {"deadline_date": "2027-09-30"}),
    pb.MESSAGE_KIND_SHARED_CONTACT_NOTICE: (
        {"deadline_date": "2027-05-01", "case_count": 1},
        {"deadline_date": "2027-09-30", "case_count": 1000},
    ),
}
EVERY = [
    pb.Message(kind=kind, language=language, **values)  # type: ignore[arg-type]  # by name
    for (kind, both), language in itertools.product(VALUES.items(), LANGUAGES)
    for values in both
]

HOSTILE = [
    "Digi\r\npost",
    "{{ 7*7 }}",
    "{% raw %}",
    "a\x00b",
    "x\u202ey",
    "p\u2028q",
    "<script>alert(1)</script>",
    "& <b>",
]


class _Text(HTMLParser):
    """What a browser shows of a page, and which elements it has."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.shown: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip() and self.elements[-1] != "title":
            self.shown.append(data.strip())


def chosen(
    operator_name: str, language: person_pb2.Language.ValueType = person_pb2.LANGUAGE_NB
) -> pb.Message:
    return pb.Message(kind=pb.MESSAGE_KIND_MAILBOX_CHOSEN, language=language, operator_name=operator_name)


@pytest.mark.parametrize("message", EVERY, ids=lambda each: f"{each.kind}-{each.language}")
def test_an_sms_is_one_line_in_one_part_or_two_in_northern_sami(message: pb.Message) -> None:
    text = render(message)
    assert "{" not in text
    assert text.isprintable()
    parts = split(text)
    assert len(parts.parts) == (2 if message.language == person_pb2.LANGUAGE_SE else 1), text


@pytest.mark.parametrize("message", EVERY, ids=lambda each: f"{each.kind}-{each.language}")
def test_an_email_says_the_same_as_text_and_as_a_page(message: pb.Message) -> None:
    email = render_email(message)
    assert email.subject.isprintable()
    assert "{" not in email.subject + email.text
    page = _Text(email.html)
    paragraphs = re.split(r"\n\n(?:-- \n)?", email.text.strip())
    assert page.shown == [email.subject, *paragraphs]
    assert not {"img", "a", "script", "link", "iframe"} & set(page.elements)
    assert not re.search(r"https?:|www\.", email.html)
    assert re.search(r'<html lang="(nb|nn|en|se)">', email.html)


def test_no_code_stands_in_a_subject() -> None:
    for message in EVERY:
        assert not re.search("[0-9]", render_email(message).subject)


def test_every_kind_has_a_text_and_every_text_a_kind_but_letters() -> None:
    kinds = set(pb.MessageKind.values()) - {
        pb.MESSAGE_KIND_UNSPECIFIED,
        pb.MESSAGE_KIND_SHARED_CONTACT_LETTER,
    }
    assert set(VALUES) == kinds


@pytest.mark.parametrize("kind", VALUES)
def test_the_languages_differ(kind: pb.MessageKind.ValueType) -> None:
    texts = [(render(each), render_email(each).text) for each in EVERY if each.kind == kind]
    assert len(set(texts)) >= len(LANGUAGES)


@pytest.mark.parametrize("kind", [kind for kind, both in VALUES.items() if both[0]])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_without_its_value_is_not_sent(
    kind: pb.MessageKind.ValueType, language: person_pb2.Language.ValueType
) -> None:
    for make in (render, render_email):
        with pytest.raises(UnknownText):
            make(pb.Message(kind=kind, language=language))


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "kind, field",
    [
        (pb.MESSAGE_KIND_MAILBOX_CHOSEN, "operator_name"),
        (pb.MESSAGE_KIND_VERIFICATION_CODE, "verification_code"),
    ],
)
def test_a_hostile_value_is_shown_as_it_is_and_nothing_more(
    kind: pb.MessageKind.ValueType, field: str, language: person_pb2.Language.ValueType, hostile: str
) -> None:
    message = pb.Message(kind=kind, language=language, **{field: hostile})  # type: ignore[arg-type]  # by name
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in hostile).split())

    sms, email = render(message), render_email(message)

    assert shown in sms
    assert sms.isprintable()
    assert shown in email.text
    assert email.text.replace("\n", "").isprintable()
    page = _Text(email.html)
    assert any(shown in paragraph for paragraph in page.shown)
    harmless = _Text(render_email(pb.Message(kind=kind, language=language, **{field: "x"})).html)  # type: ignore[arg-type]  # by name
    assert page.elements == harmless.elements
    # Refuses line breaks in headers.
    EmailMessage()["Subject"] = email.subject


@pytest.mark.parametrize("hostile", ["2027-02-30", "2027-02-21\r\n", "21.02.2027", "<b>"])
def test_a_day_that_is_none_is_not_sent(hostile: str) -> None:
    message = pb.Message(
        kind=pb.MESSAGE_KIND_CONTACT_REMINDER, language=person_pb2.LANGUAGE_NB, deadline_date=hostile
    )
    with pytest.raises(UnknownText):
        render(message)


def test_dates_are_written_as_each_language_writes_them() -> None:
    written = {
        language: render(
            pb.Message(kind=pb.MESSAGE_KIND_CONTACT_EXPIRED, language=language, deadline_date="2027-02-21")
        )
        for language in LANGUAGES
    }
    for language, day in zip(
        LANGUAGES,
        ["21. februar 2027", "21. februar 2027", "21 February 2027", "guovvamánu 21. b. 2027"],
        strict=True,
    ):
        assert day in written[language]


@pytest.mark.parametrize(
    "message",
    [
        pb.Message(kind=pb.MESSAGE_KIND_MAILBOX_CHOSEN),
        pb.Message(language=person_pb2.LANGUAGE_NB),
        pb.Message(kind=99, language=person_pb2.LANGUAGE_NB),  # type: ignore[arg-type]  # a newer register's
        pb.Message(kind=pb.MESSAGE_KIND_MAILBOX_CHOSEN, language=99),  # type: ignore[arg-type]  # likewise
        pb.Message(kind=pb.MESSAGE_KIND_SHARED_CONTACT_LETTER, language=person_pb2.LANGUAGE_NB),
    ],
)
def test_a_message_without_a_text_says_so(message: pb.Message) -> None:
    for make in (render, render_email):
        with pytest.raises(UnknownText):
            make(message)
