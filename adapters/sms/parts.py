"""How a text goes in SMS: its alphabet, its parts, what they cost (3GPP TS 23.038 and 23.040)."""

from dataclasses import dataclass
from enum import Enum

import gsm0338
from krr.v1 import delivery_service_pb2 as pb

_ESCAPE = "\x1b"
_gsm_7 = gsm0338.Codec()


class Alphabet(Enum):
    """How letters are written: the units that one SMS holds, and each part of several.

    A header that joins the parts takes the difference.
    """

    GSM_7 = (160, 153)
    UCS_2 = (70, 67)

    @property
    def alone(self) -> int:
        """Units in a text of one part."""
        return self.value[0]

    @property
    def joined(self) -> int:
        """Units in each of several parts."""
        return self.value[1]

    def encode(self, text: str) -> bytes:
        """One septet in each byte, or UTF-16 in network order. Raises UnicodeEncodeError."""
        if self is Alphabet.UCS_2:
            return text.encode("utf-16-be")
        if _ESCAPE in text:
            # A letter of the table, which would make another one of the letter after it.
            raise UnicodeEncodeError("gsm03.38", text, text.index(_ESCAPE), text.index(_ESCAPE) + 1, "escape")
        encoded: bytes = _gsm_7.encode(text)[0]
        return encoded

    def units(self, letter: str) -> int:
        """How many units a letter takes: septets, two for such as "€"; or 16 bits, two for such as "😀"."""
        return len(self.encode(letter)) // (2 if self is Alphabet.UCS_2 else 1)


@dataclass(frozen=True)
class SplitText:
    """A text as it goes; no letter of two units stands across two parts."""

    alphabet: Alphabet
    parts: tuple[str, ...]


def split(text: str) -> SplitText:
    """Split as gateways do: by GSM-7 where that has all letters, else by UCS-2; one part where all fits."""
    alphabet = Alphabet.GSM_7
    try:
        alphabet.encode(text)
    except UnicodeEncodeError:
        alphabet = Alphabet.UCS_2
    units = [alphabet.units(letter) for letter in text]
    if sum(units) <= alphabet.alone:
        return SplitText(alphabet, (text,))
    parts, taken = [""], 0
    for letter, needed in zip(text, units, strict=True):
        if taken + needed > alphabet.joined:
            parts.append("")
            taken = 0
        parts[-1] += letter
        taken += needed
    return SplitText(alphabet, tuple(parts))


def cost_class(recipient: str) -> pb.CostClass.ValueType:
    """What a part to this number, in E.164, costs."""
    return pb.COST_CLASS_SMS_DOMESTIC if recipient.startswith("+47") else pb.COST_CLASS_SMS_FOREIGN
