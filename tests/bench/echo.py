"""The floor of calls: bare gRPC for Python, which answers any call with so many bytes.

python -m tests.bench.echo PORT BYTES
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from server.config import Settings

_THREADS: int = Settings.model_fields["worker_threads"].default


class _Echo(grpc.GenericRpcHandler):
    def __init__(self, answer: bytes) -> None:
        self._handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: answer)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return self._handler


def main() -> None:
    port, size = map(int, sys.argv[1:])
    server = grpc.server(
        ThreadPoolExecutor(_THREADS), handlers=[_Echo(bytes(size))], options=[("grpc.so_reuseport", 0)]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.wait_for_termination()


main()
