"""A register that takes imports on a real socket, fails as it is told to, and is right otherwise."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_import_pb2 as import_pb

from tests.clients.scripted_register import Act, refuses

# Rows come into the register in groups; what waits for the rest of its group is lost in a cut.
GROUP = 1500


@dataclass
class Import:
    """What the register holds of one."""

    check_only: bool
    entered: list[int] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    received_row: int = 0
    finished: bool = False

    def take(self, rows: list[pb.ImportRow]) -> None:
        for row in rows:
            assert row.row > self.received_row
            self.received_row = row.row
            if row.WhichOneof("content") == "person":
                self.entered.append(row.row)
            else:
                self.rejected.append((row.row, row.unreadable_field))


class ScriptedImports:
    """Serves imports.

    acts: what each stream does after so many messages, or with None in place of the answer.
    answers_no_question: while set, GetImport hangs.
    first_rows: the first row that each stream brought.
    sizes: rows and bytes of each message.
    """

    def __init__(self) -> None:
        self.imports: dict[str, Import] = {}
        self.acts: deque[tuple[int | None, Act]] = deque()
        self.answers_no_question = threading.Event()
        self.first_rows: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        self.contexts: list[grpc.ServicerContext] = []
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> None:
        """Serve; on the port of before, where there was one."""
        # As much as the register takes in a message.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4 * 1024 * 1024)]
        self._server = grpc.server(ThreadPoolExecutor(20), options=options)
        handlers: Any = {
            "ImportPersons": grpc.stream_unary_rpc_method_handler(
                self._import,
                pb.ImportPersonsRequest.FromString,
                import_pb.ImportPersonsResponse.SerializeToString,
            ),
            "GetImport": grpc.unary_unary_rpc_method_handler(
                self._get,
                import_pb.GetImportRequest.FromString,
                import_pb.GetImportResponse.SerializeToString,
            ),
        }
        handler = grpc.method_handlers_generic_handler("krr.v1.AdminService", handlers)
        self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def end(self) -> None:
        """Stop serving, at once."""
        if self._server:
            self._server.stop(None).wait()
            self._server = None

    def _import(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        self.contexts.append(context)
        messages, act = self.acts.popleft() if self.acts else (None, None)
        group: list[pb.ImportRow] = []
        found: Import | None = None
        for count, request in enumerate(requests):
            if act and count == messages:
                _do(act, context)
                break
            with self._lock:
                if found is None:
                    found = self.imports.setdefault(request.import_id, Import(request.check_only))
                    import_id = request.import_id
                    self.first_rows += [row.row for row in request.rows[:1]]
                if found.finished:
                    _do(refuses(grpc.StatusCode.FAILED_PRECONDITION, "IMPORT_FINISHED"), context)
                self.sizes.append((len(request.rows), request.ByteSize()))
                group += request.rows
                if len(group) >= GROUP or request.last:
                    found.take(group)
                    group = []
                found.finished = request.last
        if act and messages is None:
            _do(act, context)
        if found is None:
            return import_pb.ImportPersonsResponse()
        return import_pb.ImportPersonsResponse(**{"import": _told(import_id, found)})

    def _get(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.answers_no_question.is_set():
            gone = threading.Event()
            if context.add_callback(gone.set):
                gone.wait()
        with self._lock:
            if request.import_id not in self.imports:
                _do(refuses(grpc.StatusCode.NOT_FOUND, "UNKNOWN_IMPORT"), context)
            return import_pb.GetImportResponse(
                **{"import": _told(request.import_id, self.imports[request.import_id])}
            )


def _do(act: Act, context: grpc.ServicerContext) -> None:
    for _ in act(iter(()), context):
        raise AssertionError("an act on answers, of which there is only one")


def _told(import_id: str, found: Import) -> import_pb.PersonImport:
    return import_pb.PersonImport(
        import_id=import_id,
        state=import_pb.IMPORT_STATE_FINISHED if found.finished else import_pb.IMPORT_STATE_RECEIVING,
        received_row=found.received_row,
        loaded_count=len(found.entered),
        rejected_count=len(found.rejected),
        check_only=found.check_only,
    )
