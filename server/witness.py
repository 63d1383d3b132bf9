"""The witness: a file outside the database that knows how far the register was served.

A restored database cannot know what it has lost. The file can: it holds the epoch and the
highest change number seen, with a checksum, in one line. Keep it where the database's backups
do not reach. What was served since the last write it does not know.
"""

import fcntl
import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from server.store.epoch import RestoredDatabase


class BrokenWitness(Exception):
    """The witness cannot be read, believed or written; the text says what to do."""


@dataclass(frozen=True)
class Witnessed:
    """The register was served in this epoch up to this change number."""

    epoch: uuid.UUID
    last_change_number: int

    def line(self) -> str:
        """As it stands in the file."""
        said = f"{self.epoch} {self.last_change_number}"
        return f"{said} {zlib.crc32(said.encode()):08x}\n"

    @classmethod
    def from_line(cls, line: str) -> Self:
        """What line() made. Raises ValueError for anything else."""
        epoch, number, _ = line.split(" ")
        witnessed = cls(uuid.UUID(epoch), int(number))
        if witnessed.line() != line:
            raise ValueError("not as it was written")
        return witnessed


class Witness:
    """The file at path, shared by all servers on this machine that serve the same register.

    Its folder is made where missing. Each write is whole and on disk, or did not happen,
    whenever the process or the machine ends; an unchanged one costs no more than reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def read(self) -> Witnessed | None:
        """What the file holds; None where there is none yet. Raises BrokenWitness."""
        try:
            return Witnessed.from_line(self.path.read_bytes().decode("ascii"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BrokenWitness(f"The witness {self.path} cannot be read: {error.strerror}.") from None
        except ValueError:
            raise BrokenWitness(
                f"The witness {self.path} is damaged: bring it back, or remove it where the database is "
                "known to have lost nothing, or decide with `krr epoch new` (readers start again)."
            ) from None

    def write(self, epoch: uuid.UUID, number: int) -> None:
        """Note that the register was served up to number. A higher one of the epoch stays.

        Raises RestoredDatabase where the file is of another epoch: somebody decided for a new
        one, and who serves the old one must end. Raises BrokenWitness.
        """
        with self._locked_folder() as folder:
            held = self.read()
            if held is not None and held.epoch != epoch:
                raise RestoredDatabase(
                    f"The witness {self.path} is of epoch {held.epoch}, and this server serves {epoch}: "
                    "start it again."
                )
            if held is None or held.last_change_number < number:
                self._put(folder, Witnessed(epoch, number))

    def replace(self, epoch: uuid.UUID, number: int) -> None:
        """Note that the register is served from number on in a new epoch, whatever the file held.

        Raises BrokenWitness.
        """
        with self._locked_folder() as folder:
            self._put(folder, Witnessed(epoch, number))

    @contextmanager
    def _locked_folder(self) -> Iterator[int]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # The folder's lock: the file itself is another one after each write.
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield folder
            finally:
                os.close(folder)
        except OSError as error:
            raise BrokenWitness(f"The witness {self.path} cannot be written: {error.strerror}.") from None

    def _put(self, folder: int, witnessed: Witnessed) -> None:
        fresh = self.path.with_name(f".{self.path.name}.new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(witnessed.line())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        os.fsync(folder)
