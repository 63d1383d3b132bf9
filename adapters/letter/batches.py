"""Numbered batches of letters in a folder, for a print house to take.

    batch-000001/<message_id>.pdf
    batch-000001/manifest.csv   number, message_id, file, pages, sha256 of each letter; no names
    batch-000001/SHA256SUMS     of all these, for `sha256sum --check`
    .manifests/batch-000001.csv the same manifest, kept after the print house took the folder away

A batch is made under a hidden name, .batch-000001, and put on disk; then its manifest is, which
decides: from then on the batch exists. Last it is renamed. Who starts anew renames what was decided
and removes what was not. So a letter is in one batch only, whenever the process is killed.
"""

import csv
import fcntl
import hashlib
import io
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

LARGEST_BATCH = 100

_COLUMNS = ["number", "message_id", "file", "pages", "sha256"]

# For a print house's program in the same group.
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750

_log = structlog.get_logger()


@dataclass(frozen=True)
class Letter:
    """One letter to be printed."""

    pdf: bytes
    pages: int


@dataclass
class _Batch:
    """Letters, by message, that wait to be put on disk together."""

    closes: float
    letters: dict[str, Letter] = field(default_factory=dict)
    is_taken: bool = False
    is_over: bool = False
    fault: OSError | None = None


class Batches:
    """The folder, held by this process alone; made by `batches_in`. Threads may share it."""

    def __init__(self, folder: Path, batch_seconds: float) -> None:
        self._folder = folder
        self._manifests = folder / ".manifests"
        self._batch_seconds = batch_seconds
        # Guards what follows; notified when a batch is over.
        self._changed = threading.Condition()
        self._open: _Batch | None = None
        self._placed: dict[str, str] = {}
        # One batch is written at a time.
        self._writing = threading.Lock()
        self._last_number = 0
        self._is_clean = False
        self._tidy()

    def place_of(self, message_id: str) -> str | None:
        """Where the message's letter is, such as "000001/0003"; None where there is none."""
        with self._changed:
            return self._placed.get(message_id)

    def add(self, message_id: str, letter: Letter) -> str:
        """Put the letter into the open batch, and wait until that is on disk; says where it is.

        A message whose letter is in a batch already stays there. Raises OSError, such as for a full
        disk; then the letter is in none, or will be found where it is at the next attempt.
        """
        with self._changed:
            place = self._placed.get(message_id)
            if place:
                return place
            batch = self._open = self._open or _Batch(time.monotonic() + self._batch_seconds)
            batch.letters[message_id] = letter
            if len(batch.letters) >= LARGEST_BATCH:
                batch.closes = time.monotonic()
            # Whoever sees it full or ripe first writes it, for all.
            while not batch.is_taken and (left := batch.closes - time.monotonic()) > 0:
                self._changed.wait(left)
            writes = not batch.is_taken
            if writes:
                batch.is_taken = True
                self._open = None
                self._changed.notify_all()
        if writes:
            self._write(batch)
        with self._changed:
            self._changed.wait_for(lambda: batch.is_over)
            if batch.fault:
                # One for each thread: a traceback grows with every raise.
                raise OSError(batch.fault.errno, "the batch was not written")
            return self._placed[message_id]

    def _write(self, batch: _Batch) -> None:
        try:
            with self._writing:
                self._tidy()
                # What an earlier attempt decided may be found only now.
                letters = {key: each for key, each in batch.letters.items() if not self.place_of(key)}
                if letters:
                    self._is_clean = False
                    self._write_batch(letters)
                    self._is_clean = True
        except OSError as fault:
            batch.fault = fault
        finally:
            with self._changed:
                if not batch.fault and not all(key in self._placed for key in batch.letters):
                    batch.fault = OSError("fault")
                batch.is_over = True
                self._changed.notify_all()

    def _write_batch(self, letters: Mapping[str, Letter]) -> None:
        name = f"batch-{self._last_number + 1:06}"
        made = self._folder / f".{name}"
        made.mkdir(_FOLDER_MODE)
        files = {f"{message_id}.pdf": letter.pdf for message_id, letter in letters.items()}
        manifest = _manifest(letters)
        files["manifest.csv"] = manifest
        sums = "".join(f"{_sha256(content)}  {file}\n" for file, content in files.items()).encode()
        for file, content in {**files, "SHA256SUMS": sums}.items():
            _write_synced(made / file, content)
        _sync_folder(made)
        _sync_folder(self._folder)
        unfinished = self._manifests / f".{name}.csv"
        _write_synced(unfinished, manifest)
        unfinished.replace(self._manifests / f"{name}.csv")
        _sync_folder(self._manifests)
        made.rename(self._folder / name)
        _sync_folder(self._folder)
        self._note(name, manifest)
        _log.info("batch written", batch=name, letters=len(letters), sha256=_sha256(sums))

    def _tidy(self) -> None:
        """Bring the folder to what was decided, and know it."""
        if self._is_clean:
            return
        self._manifests.mkdir(_FOLDER_MODE, exist_ok=True)
        for unfinished in self._manifests.glob(".batch-*"):
            unfinished.unlink()
        for manifest in self._manifests.glob("batch-*.csv"):
            made = self._folder / f".{manifest.stem}"
            if made.exists():
                made.rename(self._folder / manifest.stem)
            self._note(manifest.stem, manifest.read_bytes())
        # Should somebody have removed the hidden ones.
        for manifest in self._folder.glob("batch-*/manifest.csv"):
            self._note(manifest.parent.name, manifest.read_bytes())
        for undecided in self._folder.glob(".batch-*"):
            shutil.rmtree(undecided)
        _sync_folder(self._manifests)
        _sync_folder(self._folder)
        self._is_clean = True

    def _note(self, name: str, manifest: bytes) -> None:
        number = name.removeprefix("batch-")
        rows = csv.DictReader(io.StringIO(manifest.decode()))
        places = {row["message_id"]: f"{number}/{int(row['number']):04}" for row in rows}
        with self._changed:
            self._placed.update(places)
        self._last_number = max(self._last_number, int(number))


@contextmanager
def batches_in(folder: Path, batch_seconds: float) -> Iterator[Batches]:
    """The folder's batches, while no other process may have them.

    batch_seconds: how long after its first letter a batch is closed at the latest.

    Raises BlockingIOError where another process has the folder, and other OSError.
    """
    folder.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise BlockingIOError(taken.errno, "another process puts letters there", str(folder)) from None
        yield Batches(folder, batch_seconds)


def _manifest(letters: Mapping[str, Letter]) -> bytes:
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for number, (message_id, letter) in enumerate(letters.items(), 1):
        rows.writerow([number, message_id, f"{message_id}.pdf", letter.pages, _sha256(letter.pdf)])
    return written.getvalue().encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_synced(file: Path, content: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
