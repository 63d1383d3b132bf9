"""Person identifiers in a file, one per line."""

from collections.abc import Iterable, Iterator

# Far more than an identifier has, and little enough for 1000 of them in one request.
_LONGEST = 64


class NotText(Exception):
    """A line is not text in UTF-8."""


def identifiers_in(lines: Iterable[bytes]) -> Iterator[str]:
    """What the lines hold, malformed identifiers included; these are for the register to refuse.

    White space around an identifier, a byte order mark, and what follows a # are left out, and
    so are lines with nothing else. What is longer than 64 characters, and so no identifier, is
    cut off there.

    Raises NotText, which names the line and nothing of what it holds.
    """
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise NotText(f"line {number} is not text in UTF-8") from None
        if identifier := text.partition("#")[0].strip():
            yield identifier[:_LONGEST]
