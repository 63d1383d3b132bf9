"""Imports as they are received: each row checked, and published in chunks while the next ones are checked.

At most two chunks are ahead of the one being entered, so however much comes, memory stays flat.
"""

import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial

import structlog
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import error_reason_pb2, person_import_pb2

from server import translate
from server.domain.caller import Caller
from server.domain.errors import InvalidValue, Reason
from server.domain.rules import MAX_BATCH
from server.loaded_person import LoadedPersons, staged_time
from server.store import person_import as imports
from server.store.person_import import PersonImport, Rejection
from server.store.person_staging import StagedPerson, StagedTime
from server.store.store import Store

# Other writers wait while a chunk takes its change numbers and is entered: 20 to 40 µs a person.
# With fewer than a thousand, what a chunk costs besides begins to count.
CHUNK = 2000
# Apart from how long the caller is there. A chunk takes a tenth of a second where the database
# is well; finishing reads all persons.
_CHUNK_SECONDS = 30.0
_FINISH_SECONDS = 600.0

_FIELD = re.compile(r"[a-z0-9_.\[\]]{1,64}")
_WHOLE_ROW = "row"

_log = structlog.get_logger()


def import_persons(
    requests: Iterable[pb.ImportPersonsRequest],
    store: Store,
    caller: Caller,
    persons: LoadedPersons,
    now: Callable[[], datetime],
) -> PersonImport:
    """Take the rows of one stream; how the import stands after it.

    Raises Refusal, after which everything up to received_row is done; what came after it is
    to be sent again, if at all.
    """
    with ThreadPoolExecutor(2, thread_name_prefix="import") as executor:
        stream: _Stream | None = None
        for request in requests:
            request.DiscardUnknownFields()
            stream = stream or _Stream(request, store, caller, persons, executor)
            stream.take(request, staged_time(now()))
        if stream is None:
            raise InvalidValue(Reason.INVALID_FIELD, "import_id", "the import's UUID in a first message")
        return stream.end()


class _Stream:
    def __init__(
        self,
        first: pb.ImportPersonsRequest,
        store: Store,
        caller: Caller,
        persons: LoadedPersons,
        executor: ThreadPoolExecutor,
    ) -> None:
        self._id = import_id_from(first.import_id)
        self._given_id = first.import_id
        self._check_only = first.check_only
        self._store = store
        self._caller = caller
        self._persons = persons
        self._executor = executor
        self._last_row = 0
        self._chunk: list[StagedPerson | Rejection] = []
        self._under_way: deque[Future[PersonImport]] = deque()
        self._import, begun = store.write(
            caller,
            lambda transaction: imports.open_import(transaction, self._id, self._check_only),
            deadline=time.monotonic() + _CHUNK_SECONDS,
        )
        if begun:
            _log.info("import_begun", import_id=str(self._id), check_only=self._check_only)

    def take(self, request: pb.ImportPersonsRequest, now: StagedTime) -> None:
        if request.import_id not in ("", self._given_id):
            raise InvalidValue(Reason.INVALID_FIELD, "import_id", "as in the first message, or empty")
        if request.check_only and not self._check_only:
            raise InvalidValue(Reason.INVALID_FIELD, "check_only", "as in the first message")
        if len(request.rows) > MAX_BATCH:
            raise InvalidValue(Reason.BATCH_SIZE, "rows", f"at most {MAX_BATCH} items")
        for row in request.rows:
            self._take_row(row, now)
        if request.last:
            self._finish()

    def end(self) -> PersonImport:
        self._publish()
        return self._wait_until_under_way(0)

    def _take_row(self, row: pb.ImportRow, now: StagedTime) -> None:
        number = row.row
        if number <= self._last_row:
            raise InvalidValue(Reason.INVALID_FIELD, "rows", "rows from 1 on, rising from each to the next")
        self._last_row = number
        if number <= self._import.received_row:
            return
        self._chunk.append(self._checked(row, now))
        if len(self._chunk) == CHUNK:
            self._publish()

    def _checked(self, row: pb.ImportRow, now: StagedTime) -> StagedPerson | Rejection:
        content = row.WhichOneof("content")
        if content == "unreadable_field":
            if not _FIELD.fullmatch(row.unreadable_field):
                raise InvalidValue(
                    Reason.INVALID_FIELD, "rows.unreadable_field", "a-z, 0-9, _, . and brackets, 1 to 64"
                )
            return Rejection(row.row, row.unreadable_field, Reason.INVALID_FIELD.name)
        if content is None:
            raise InvalidValue(Reason.INVALID_FIELD, "rows", "each with a person or an unreadable_field")
        try:
            return self._persons.read(row.row, row.person, now)
        except InvalidValue as invalid:
            return Rejection(row.row, invalid.field or _WHOLE_ROW, invalid.reason.name)

    def _publish(self) -> None:
        """Publish what is checked: copy it while the chunk before is entered, and enter it then."""
        if not self._chunk:
            return
        self._wait_until_under_way(1)
        before = self._under_way[0] if self._under_way else None
        copied = threading.Event()

        def wait_for_turn() -> None:
            copied.set()
            if before:
                # Nothing may be done after a chunk that could not be.
                before.result()

        enter = partial(
            imports.enter,
            import_id=self._id,
            rows=self._chunk,
            check_only=self._check_only,
            wait_for_turn=wait_for_turn,
        )
        self._chunk = []
        publishing = self._executor.submit(
            lambda: self._store.write(self._caller, enter, deadline=time.monotonic() + _CHUNK_SECONDS)
        )
        publishing.add_done_callback(lambda _: copied.set())
        self._under_way.append(publishing)
        # Two that compute at once would slow each other. And it has its connection by now, so none
        # that comes after can keep it from one.
        copied.wait()

    def _wait_until_under_way(self, most: int) -> PersonImport:
        """How the import stands when no more chunks than that are being published."""
        while len(self._under_way) > most:
            self._import = self._under_way.popleft().result()
        return self._import

    def _finish(self) -> None:
        self.end()
        self._import, finished = self._store.write(
            self._caller,
            lambda transaction: imports.finish(transaction, self._id),
            deadline=time.monotonic() + _FINISH_SECONDS,
        )
        if finished:
            _log.info(
                "import_finished",
                import_id=str(self._id),
                check_only=self._check_only,
                loaded=self._import.loaded_count,
                present=self._import.present_count,
                rejected=self._import.rejected_count,
            )


def import_id_from(text: str) -> uuid.UUID:
    """Read an import's id. Raises InvalidValue: INVALID_REQUEST_ID."""
    return translate.uuid_from("import_id", text, Reason.INVALID_REQUEST_ID)


def import_to(imported: PersonImport) -> person_import_pb2.PersonImport:
    """An import."""
    return person_import_pb2.PersonImport(
        import_id=str(imported.id),
        state=(
            person_import_pb2.IMPORT_STATE_FINISHED
            if imported.finished_time
            else person_import_pb2.IMPORT_STATE_RECEIVING
        ),
        received_row=imported.received_row,
        loaded_count=imported.loaded_count,
        present_count=imported.present_count,
        rejected_count=imported.rejected_count,
        check_only=imported.check_only,
        created_time=translate.time_to(imported.created_time),
        finished_time=translate.time_to(imported.finished_time),
    )


def rejection_to(rejection: Rejection) -> person_import_pb2.ImportRejection:
    """A row that was not taken."""
    return person_import_pb2.ImportRejection(
        row=rejection.row,
        field=rejection.field,
        reason=error_reason_pb2.ErrorReason.Value(f"ERROR_REASON_{rejection.reason}"),
    )
