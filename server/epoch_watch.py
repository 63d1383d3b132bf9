"""Watches that the database goes on to be the one that the server started on."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from server.domain.errors import Refusal
from server.epoch import why_end
from server.store.epoch import RestoredDatabase, StandbyDatabase, Standing, read_standing
from server.store.store import Store
from server.witness import BrokenWitness, Witness

_ANSWER_WITHIN_SECONDS = 1.0
_END_WITHIN_SECONDS = 2.0
# A write to the witness waits for the disk, so it is not made for each change.
_WITNESS_EVERY_SECONDS = 0.5

_log = structlog.get_logger()


class EpochWatch:
    """Reads where the register stands, and has the witness know.

    seen: where it stood at the start.
    give_up: called with the reason when the database turns out to be another one.
    """

    def __init__(
        self, store: Store, witness: Witness, seen: Standing, give_up: Callable[[str], None]
    ) -> None:
        self._store = store
        self._witness = witness
        self._seen = seen
        self._give_up = give_up
        self._witness_due = 0.0

    def read(self) -> int:
        """The last change number.

        Raises Refusal or StandbyDatabase where the database is away, RestoredDatabase where it
        is another one.
        """
        standing = self._store.read(
            lambda reader: read_standing(reader.connection),
            deadline=time.monotonic() + _ANSWER_WITHIN_SECONDS,
        )
        try:
            why = why_end(self._seen, standing)
            if why is not None:
                raise RestoredDatabase(why)
            self._seen = standing
            if time.monotonic() >= self._witness_due:
                self._have_witnessed()
        except RestoredDatabase as restored:
            self._give_up(str(restored))
            raise
        return standing.last_change_number

    def end(self) -> None:
        """Have the witness know the last number, once nothing is served any more."""
        self._witness_due = 0.0
        last = threading.Thread(target=self._read_a_last_time, name="epoch-watch", daemon=True)
        last.start()
        # One that hangs with the database is left to end with the process.
        last.join(timeout=_END_WITHIN_SECONDS)

    def _read_a_last_time(self) -> None:
        with suppress(Refusal, StandbyDatabase, RestoredDatabase):
            self.read()

    def _have_witnessed(self) -> None:
        self._witness_due = time.monotonic() + _WITNESS_EVERY_SECONDS
        try:
            self._witness.write(self._seen.epoch, self._seen.last_change_number)
        except BrokenWitness as broken:
            # A full disk must not end the service; what is missed is caught up with later.
            _log.error("witness_not_written", why=str(broken))
