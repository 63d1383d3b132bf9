"""A file that is there when it is complete, and not before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def part_of(file: Path) -> Path:
    """Where the file is written until it is complete."""
    return file.with_name(f"{file.name}.part")


@contextmanager
def whole_file(file: Path) -> Iterator[TextIO]:
    """Text for the file, which only its owner may read; in UTF-8, lines as they are written.

    The text goes to part_of(file), anew, and becomes the file when the block ends well. Else
    it stays there, and the file is as it was. Raises OSError.
    """
    part = part_of(file)
    part.unlink(missing_ok=True)
    with open(part, "x", encoding="utf-8", newline="", opener=_for_its_owner) as text:
        yield text
        text.flush()
        # Or a power cut could leave the file without what was written to it.
        os.fsync(text.fileno())
    part.replace(file)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
