"""The register's server as a process of its own, and a PostgreSQL that can be killed and stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.store import private_postgres
from tests.server.database import connect

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def environment(**settings: str) -> dict[str, str]:
    """The environment of a process with these settings and no others of ours."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("KRR_", "OTEL_"))}
    return others | {f"KRR_{name.upper()}": value for name, value in settings.items()}


def run(directory: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m server` to its end."""
    settings.setdefault("trace_directory", str(directory / "traces"))
    settings.setdefault("witness_file", str(directory / "witness"))
    return subprocess.run(
        [sys.executable, "-m", "server", *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=30,
    )


class ServerProcess:
    """`python -m server`, serving at `address`; logs to `log`, spans to `spans`."""

    def __init__(self, directory: Path, database_url: str, **settings: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "server.log"
        self.spans = directory / "traces" / "server.jsonl"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server"],
                env=environment(
                    **{
                        "database_url": database_url,
                        "listen": "127.0.0.1:0",
                        "development_credentials": "true",
                        "synthetic_identifiers": "true",
                        "trace_directory": str(directory / "traces"),
                        "witness_file": str(directory / "witness"),
                    }
                    | settings
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.address = f"127.0.0.1:{self._port()}"

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.ask_to_end()
        return self.process.wait(timeout=30)

    def _port(self) -> int:
        ends = time.monotonic() + 20
        while time.monotonic() < ends and self.process.poll() is None:
            for line in self.log.read_text().splitlines():
                if '"serving"' in line:
                    return int(json.loads(line)["port"])
            time.sleep(0.02)
        raise AssertionError(f"the server does not come up: {self.log.read_text()}")


@contextmanager
def serving(directory: Path, database_url: str, **settings: str) -> Iterator[ServerProcess]:
    """A server's process; ended hard if the test did not end it."""
    server = ServerProcess(directory, database_url, **settings)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


class Postgres:
    """A durable PostgreSQL."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = private_postgres.start(directory, durable=True)
        self.url = self._running.url

    def kill(self) -> None:
        """kill -9."""
        self._running.kill()

    def start(self) -> None:
        """Start it again on the same data."""
        self._running = private_postgres.start(self._directory, durable=True)

    def end(self) -> None:
        self._running.stop()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP to all its processes, SIGCONT afterwards."""
        with connect(self.url) as connection:
            rows = connection.execute(
                "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int "
                "UNION SELECT pid FROM pg_stat_activity"
            )
            processes = [row[0] for row in rows]
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            try:
                yield
            finally:
                for process in processes:
                    os.kill(process, signal.SIGCONT)


def health(address: str, service: str = "") -> Any:
    """What health says now."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return stub.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=2, wait_for_ready=True
        ).status


def wait_for_health(address: str, status: Any, seconds: float) -> None:
    """Pass when health is so; fail after so many seconds."""
    ends = time.monotonic() + seconds
    while health(address) != status:
        assert time.monotonic() < ends, f"health is not so within {seconds} seconds"
        time.sleep(0.05)
