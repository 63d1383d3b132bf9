"""How texts are split into SMS parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from krr.v1 import delivery_service_pb2 as pb

from adapters.sms.parts import Alphabet, cost_class, split

# Two septets each.
ESCAPED = "[]{}|^~\\€"
NORDIC = "æøåÆØÅäöüéèàòñÄÖÜ@£$¥"
SAMI = "áčđŋšŧž"

gsm_texts = st.text(st.sampled_from("abc 019.," + NORDIC + ESCAPED), max_size=700)
any_texts = st.text(st.sampled_from("abc æøå€[" + SAMI + "–«»😀👍"), max_size=400) | st.text(max_size=400)


def units(alphabet: Alphabet, text: str) -> int:
    return len(alphabet.encode(text)) // (2 if alphabet is Alphabet.UCS_2 else 1)


@given(gsm_texts | any_texts)
def test_parts_joined_are_the_text_and_none_is_longer_than_a_part_may_be(text: str) -> None:
    found = split(text)
    assert "".join(found.parts) == text
    assert len(found.parts) >= 1
    limit = found.alphabet.alone if len(found.parts) == 1 else found.alphabet.joined
    # Each part is encoded by itself: half a pair could not be.
    assert all(units(found.alphabet, part) <= limit for part in found.parts)


@given(gsm_texts | any_texts)
def test_a_part_ends_only_where_the_next_letter_has_no_room(text: str) -> None:
    found = split(text)
    for part, following in zip(found.parts, found.parts[1:], strict=False):
        assert units(found.alphabet, part + following[0]) > found.alphabet.joined


@given(any_texts)
def test_the_bytes_of_all_parts_are_the_text_for_whoever_reads_them(text: str) -> None:
    found = split(text)
    sent = b"".join(found.alphabet.encode(part) for part in found.parts)
    if found.alphabet is Alphabet.UCS_2:
        assert sent.decode("utf-16-be") == text
    else:
        assert sent.decode("gsm03.38") == text


@pytest.mark.parametrize(
    ("text", "alphabet", "lengths"),
    [
        ("", Alphabet.GSM_7, [0]),
        ("a" * 160, Alphabet.GSM_7, [160]),
        ("a" * 161, Alphabet.GSM_7, [153, 8]),
        ("a" * 306, Alphabet.GSM_7, [153, 153]),
        ("a" * 307, Alphabet.GSM_7, [153, 153, 1]),
        ("€" * 80, Alphabet.GSM_7, [80]),
        # 152 of 153 septets are taken: no half of the pair is put into the last one.
        ("€" * 81, Alphabet.GSM_7, [76, 5]),
        ("a" * 152 + "[" + "a" * 10, Alphabet.GSM_7, [152, 11]),
        ("č" * 70, Alphabet.UCS_2, [70]),
        ("č" * 71, Alphabet.UCS_2, [67, 4]),
        ("😀" * 35, Alphabet.UCS_2, [35]),
        ("😀" * 36, Alphabet.UCS_2, [33, 3]),
    ],
)
def test_a_text_at_a_limit_has_this_many_parts(text: str, alphabet: Alphabet, lengths: list[int]) -> None:
    found = split(text)
    assert found.alphabet is alphabet
    assert [len(part) for part in found.parts] == lengths


@pytest.mark.parametrize("letter", NORDIC + ESCAPED)
def test_norwegian_letters_are_in_gsm_7(letter: str) -> None:
    assert split(letter).alphabet is Alphabet.GSM_7


@pytest.mark.parametrize("letter", "čđŋšŧž–«»’á\u00a0\x1b")
def test_sami_letters_and_typographic_marks_are_not(letter: str) -> None:
    assert split(f"a{letter}").alphabet is Alphabet.UCS_2


@pytest.mark.parametrize(
    ("recipient", "cost"),
    [
        ("+4799999999", pb.COST_CLASS_SMS_DOMESTIC),
        ("+4670000000", pb.COST_CLASS_SMS_FOREIGN),
        ("+35840000000", pb.COST_CLASS_SMS_FOREIGN),
    ],
)
def test_only_a_norwegian_number_is_domestic(recipient: str, cost: pb.CostClass.ValueType) -> None:
    assert cost_class(recipient) == cost
