"""A register that sweeps on a real socket as it is told to."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from krr.v1 import sweep_pb2 as pb

from tests.clients.scripted_register import Act

# Pages of differences are no longer, so that a list of a few comes in several.
_PAGE = 3


class ScriptedSweeps:
    """Serves one sweep.

    told: what each question after the sweep is answered with, one after the other; the last one
        again and again. An act instead of a sweep refuses the question.
    differences: what it found.
    requests: what it was sent, except for questions after the sweep; those are counted.
    A list of sweeps is of all that is still to be told, one a page.
    """

    def __init__(self) -> None:
        self.told: deque[pb.Sweep | Act] = deque()
        self.differences: list[pb.Difference] = []
        self.requests: list[Any] = []
        self.questions = 0
        self._server: grpc.Server | None = None
        self.port = 0

    def start(self) -> None:
        """Serve; on the port of before, where there was one."""
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        calls: dict[str, tuple[Any, Any]] = {
            "StartSweep": (self._start, pb.StartSweepRequest),
            "GetSweep": (self._get, pb.GetSweepRequest),
            "EndSweep": (self._end, pb.EndSweepRequest),
            "ListSweeps": (self._list, pb.ListSweepsRequest),
            "ListDifferences": (self._list_differences, pb.ListDifferencesRequest),
        }
        handlers: Any = {
            method: grpc.unary_unary_rpc_method_handler(
                call, request.FromString, lambda response: response.SerializeToString()
            )
            for method, (call, request) in calls.items()
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

    def _start(self, request: pb.StartSweepRequest, context: Any) -> pb.StartSweepResponse:
        self.requests.append(request)
        return pb.StartSweepResponse(sweep_id=7)

    def _get(self, request: pb.GetSweepRequest, context: Any) -> pb.GetSweepResponse:
        assert request.sweep_id == 7
        self.questions += 1
        told = self.told.popleft() if len(self.told) > 1 else self.told[0]
        if not isinstance(told, pb.Sweep):
            next(told(iter(()), context))
        assert isinstance(told, pb.Sweep)
        return pb.GetSweepResponse(sweep=told)

    def _end(self, request: pb.EndSweepRequest, context: Any) -> pb.EndSweepResponse:
        self.requests.append(request)
        assert isinstance(self.told[-1], pb.Sweep)
        return pb.EndSweepResponse(sweep=self.told[-1])

    def _list(self, request: pb.ListSweepsRequest, context: Any) -> pb.ListSweepsResponse:
        self.requests.append(request)
        place = int(request.page_token or 0)
        sweep = self.told[place]
        assert isinstance(sweep, pb.Sweep)
        more = str(place + 1) if place + 1 < len(self.told) else ""
        return pb.ListSweepsResponse(sweeps=[sweep], next_page_token=more)

    def _list_differences(
        self, request: pb.ListDifferencesRequest, context: Any
    ) -> pb.ListDifferencesResponse:
        self.requests.append(request)
        place = int(request.page_token or 0)
        page = self.differences[place : place + min(request.page_size, _PAGE)]
        more = str(place + len(page)) if place + len(page) < len(self.differences) else ""
        return pb.ListDifferencesResponse(differences=page, next_page_token=more)
