"""Letters on paper: a PDF for each, in batches that a print house takes from a folder."""

from adapters.letter.batches import batches_in
from adapters.letter.gateway import PrintFolder
from adapters.letter.settings import LetterSettings

__all__ = ["LetterSettings", "PrintFolder", "batches_in"]
