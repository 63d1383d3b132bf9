"""Importing any number of persons."""

import queue
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import grpc
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_import_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from krr_client.cuts import delay_after, is_cut
from krr_client.errors import RegisterError

_ROWS_PER_MESSAGE = 1000
# The register takes 4 MiB.
_BYTES_PER_MESSAGE = 4_000_000
# Enough to keep the register busy while rows are read; what waits is held in memory.
_MESSAGES_AHEAD = 4


def import_persons(
    channel: grpc.Channel,
    import_id: str,
    rows_after: Callable[[int], Iterable[pb.ImportRow]],
    *,
    check_only: bool = False,
    ask_every: float = 1.0,
    give_up_after: float = 60.0,
    silence: float = 30.0,
    longest_delay: float = 10.0,
) -> Iterator[person_import_pb2.PersonImport]:
    """Enter any number of persons; gives how far the register is, as it gets on, and last the
    finished import.

    channel: from connect(), as an administrator.
    import_id: UUID that names the import. The same one again goes on where the import stopped,
        whatever stopped it, and does nothing once it is finished.
    rows_after: gives the rows after a row number (0: all of them), by rising numbers and the
        same ones each time. Called before the first and after each cut; it and what it gives
        run in the thread that iterates. A row that no message can hold goes into the
        report as one that cannot be read.
    check_only: enter nobody, only report. Another import than the one that enters them, so it
        needs another import_id.
    ask_every: seconds between questions how far the register is.
    give_up_after: seconds after a first failure in which the register did not get on at all.
    silence: seconds without any sign of the register after which the stream counts as cut off.
    longest_delay: seconds between attempts, at most (unless the register asks for more).

    Where the stream is cut off it goes on after the last row that the register has. Raises the
    last RegisterError when the register did not get on for `give_up_after` seconds, and at once
    where another attempt would end the same way. What was entered by then stays, and the import
    can go on later. Rows that were rejected raise nothing: rejected_count tells how many they are,
    ListImportRejections which.

    Close the iterator to end early.
    """
    admin = AdminServiceStub(channel)
    received, failures, failing_since = -1, 0, 0.0
    while True:
        attempt = _Attempt(admin, import_id, ask_every, silence)
        try:
            for progress in attempt.run(rows_after, check_only):
                if progress.received_row > received or _is_finished(progress):
                    received, failures = progress.received_row, 0
                    yield progress
            return
        except _Failed as failed:
            error = failed.error
        finally:
            attempt.end()
        if not failures:
            failing_since = time.monotonic()
        failures += 1
        delay = delay_after(failures, error, longest_delay)
        # An attempt that was cut off as it finished leaves the next one nothing to do.
        may_help = is_cut(error) or error.reason == "IMPORT_FINISHED"
        if not may_help or time.monotonic() + delay > failing_since + give_up_after:
            raise error
        time.sleep(delay)


class _Failed(Exception):
    """The register, or the way to it; not what the rows are read from, whose errors are the caller's own."""

    def __init__(self, error: RegisterError) -> None:
        super().__init__()
        self.error = error


class _Attempt:
    def __init__(self, admin: AdminServiceStub, import_id: str, ask_every: float, silence: float) -> None:
        self._admin = admin
        self._import_id = import_id
        self._ask_every = ask_every
        self._silence = silence
        self._heard_time = time.monotonic()
        self._ask_time = self._heard_time + ask_every
        # gRPC reads messages in a thread of its own, until the None; no faster than the
        # register takes them.
        self._messages: queue.Queue[pb.ImportPersonsRequest | None] = queue.Queue(_MESSAGES_AHEAD)
        self._call: Any = None

    def run(
        self, rows_after: Callable[[int], Iterable[pb.ImportRow]], check_only: bool
    ) -> Iterator[person_import_pb2.PersonImport]:
        """Go on with the import until it is finished. Raises _Failed, and what reading the rows raises."""
        try:
            known = self._ask()
        except RegisterError as error:
            raise _Failed(error) from None
        if known:
            yield known
            if _is_finished(known):
                return
        self._call = self._admin.ImportPersons.future(iter(self._messages.get, None))
        for message in _messages(rows_after(known.received_row if known else 0)):
            message.import_id, message.check_only = self._import_id, check_only
            while not self._is_sent(message):
                yield from self._progress()
            yield from self._progress()
        while not self._is_sent(None):
            yield from self._progress()
        while not (answer := self._answer()):
            yield from self._progress()
        yield answer

    def end(self) -> None:
        """Let go of the call, whether it has ended or not."""
        if self._call:
            self._call.cancel()
            with suppress(queue.Empty):
                while True:
                    self._messages.get_nowait()
            self._messages.put(None)

    def _is_sent(self, message: pb.ImportPersonsRequest | None) -> bool:
        if self._call.done():
            self._answer()
            raise _ended_early()
        try:
            self._messages.put(message, timeout=self._ask_every)
        except queue.Full:
            return False
        return True

    def _answer(self) -> person_import_pb2.PersonImport | None:
        try:
            answer = self._call.result(timeout=self._ask_every)
        except grpc.FutureTimeoutError:
            return None
        except RegisterError as error:
            raise _Failed(error) from None
        progress: person_import_pb2.PersonImport = getattr(answer, "import")
        if not _is_finished(progress):
            raise _ended_early()
        return progress

    def _progress(self) -> Iterator[person_import_pb2.PersonImport]:
        """How far the register is, where it is time to ask."""
        if time.monotonic() < self._ask_time:
            return
        try:
            progress = self._ask()
        except RegisterError as error:
            # The stream may be well all the same, or fails by itself.
            if time.monotonic() > self._heard_time + self._silence:
                raise _Failed(error) from None
        else:
            self._heard_time = time.monotonic()
            if progress:
                yield progress
        self._ask_time = time.monotonic() + self._ask_every

    def _ask(self) -> person_import_pb2.PersonImport | None:
        """How far the register is; None where it knows nothing of the import."""
        request = person_import_pb2.GetImportRequest(import_id=self._import_id)
        try:
            answer = self._admin.GetImport(request, timeout=self._silence)
        except RegisterError as error:
            if error.reason == "UNKNOWN_IMPORT":
                return None
            raise
        progress: person_import_pb2.PersonImport = getattr(answer, "import")
        return progress


def _messages(rows: Iterable[pb.ImportRow]) -> Iterator[pb.ImportPersonsRequest]:
    """The rows in messages that the register takes; the last one says so, and may have no rows."""
    source = iter(rows)
    while batch := list(islice(source, _ROWS_PER_MESSAGE)):
        yield from _small_enough(batch)
    yield pb.ImportPersonsRequest(last=True)


def _small_enough(rows: list[pb.ImportRow]) -> Iterator[pb.ImportPersonsRequest]:
    message = pb.ImportPersonsRequest(rows=rows)
    if message.ByteSize() <= _BYTES_PER_MESSAGE:
        yield message
    elif len(rows) == 1:
        yield pb.ImportPersonsRequest(rows=[pb.ImportRow(row=rows[0].row, unreadable_field="row")])
    else:
        half = len(rows) // 2
        yield from _small_enough(rows[:half])
        yield from _small_enough(rows[half:])


def _ended_early() -> _Failed:
    return _Failed(RegisterError(grpc.StatusCode.UNAVAILABLE, "the stream ended early"))


def _is_finished(progress: person_import_pb2.PersonImport) -> bool:
    return progress.state == person_import_pb2.IMPORT_STATE_FINISHED
