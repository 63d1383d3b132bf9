"""All parts of the register as processes, to be killed and started again by a test."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email import message_from_bytes
from pathlib import Path
from typing import Any

import grpc
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import NullPool, create_engine

from adapters.sandbox import digipost, eboks, link
from adapters.sandbox.control import running
from server.store import private_postgres, schema

ADAPTERS = ("digipost", "eboks", "sms", "email")
LEASE_SECONDS = 4


class Parts:
    """The register's processes; sandbox suppliers run beside them and are never killed.

    suppliers: URLs by name; without any, no adapter runs.
    sms_concurrency: how many messages an adapter has in hand at a time; by default one, so that a
        kill can cause one repetition at most.
    """

    def __init__(self, directory: Path, suppliers: dict[str, str], sms_concurrency: int = 1) -> None:
        self.mails = Mails()
        self._directory = directory
        self._sms_concurrency = sms_concurrency
        self.suppliers = suppliers
        self.register = f"127.0.0.1:{free_port()}"
        self._postgres = private_postgres.start(directory / "postgres", durable=True)
        self.database_url = self._postgres.url
        with create_engine(self.database_url, poolclass=NullPool).connect() as connection:
            schema.migrate(connection)
        self._environment = {
            **os.environ,
            "KRR_DATABASE_URL": self.database_url,
            "KRR_LISTEN": self.register,
            "KRR_REGISTER": self.register,
            "KRR_DEVELOPMENT_CREDENTIALS": "true",
            "KRR_SYNTHETIC_IDENTIFIERS": "true",
            "KRR_TRACE_DIRECTORY": str(directory / "traces"),
            "KRR_WITNESS_FILE": str(directory / "witness"),
            # No sweep begins by itself.
            "KRR_SWEEP_DAYS": "0",
            "KRR_REMINDERS": "false",
            # Few persons do in a minute what many do in a year.
            "KRR_MESSAGES_PER_DAY": "100000",
            **(_adapter_settings(directory, suppliers) if suppliers else {}),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("server", *(ADAPTERS if suppliers else ())):
            self._start(name)
        self.wait_until_serving()

    def kill(self, name: str) -> None:
        """End the part as a crash would, and start it again."""
        if name == "postgres":
            self._postgres.kill()
            self._postgres = private_postgres.start(self._directory / "postgres", durable=True)
            return
        self._processes[name].kill()
        self._processes[name].wait()
        self._start(name)

    @contextmanager
    def without_server(self) -> Iterator[None]:
        """End the server in order, and start it again afterwards."""
        server = self._processes["server"]
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
        yield
        self._start("server")
        self.wait_until_serving()

    def run_server_command(self, *arguments: str) -> str:
        """Run `python -m server ...` to its end; what it printed. Fails where it fails."""
        command = [sys.executable, "-m", "server", *arguments]
        return subprocess.run(
            command, env=self._environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
        ).stdout

    def wait_until_serving(self) -> None:
        """Return when health says SERVING; fail after 20 seconds."""
        ends = time.monotonic() + 20
        with grpc.insecure_channel(self.register) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            while True:
                try:
                    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                except grpc.RpcError:
                    pass
                assert time.monotonic() < ends, "the register does not come up"
                time.sleep(0.1)

    def written(self) -> Iterator[tuple[str, str]]:
        """Name and text of every log and trace file so far."""
        for file in self._directory.rglob("*"):
            if file.suffix in (".log", ".jsonl"):
                yield file.name, file.read_text(errors="replace")

    def end(self) -> None:
        """End every part in order."""
        for process in self._processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self._processes.values():
            process.wait(timeout=30)
        self._postgres.stop()

    def _start(self, name: str) -> None:
        environment = dict(self._environment)
        if name in ("sms", "email"):
            environment["KRR_ADAPTER_CONCURRENCY"] = str(self._sms_concurrency)
        command = ["-m", "server"] if name == "server" else ["-m", "adapters", name]
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *command], env=environment, stdout=log, stderr=log
            )


@contextmanager
def all_parts(directory: Path, sms_concurrency: int = 1) -> Iterator[Parts]:
    """Everything up, on empty data."""
    with ExitStack() as stack:
        suppliers = {
            name: stack.enter_context(running(module.make_app(directory / name, "127.0.0.1:1")))
            for name, module in (("digipost", digipost), ("eboks", eboks), ("link", link))
        }
        mails = Mails()
        suppliers["mail"] = stack.enter_context(mail_server(mails))
        parts = Parts(directory, suppliers, sms_concurrency)
        parts.mails = mails
        stack.callback(parts.end)
        yield parts


class Mails:
    """A mail server: the references of what it took, each as often as it came."""

    def __init__(self) -> None:
        self.references: list[str] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        message_id = message_from_bytes(envelope.content)["Message-ID"]
        self.references.append(message_id.strip("<>").partition("@")[0])
        return "250 taken"


@contextmanager
def mail_server(mails: Mails) -> Iterator[str]:
    """A mail server; its host:port."""
    controller = Controller(
        mails, hostname="127.0.0.1", port=free_port(), decode_data=False, ready_timeout=30
    )
    controller.start()
    yield f"127.0.0.1:{controller.port}"
    controller.stop()


@contextmanager
def register_alone(directory: Path) -> Iterator[Parts]:
    """The server and PostgreSQL, on empty data."""
    parts = Parts(directory, {})
    try:
        yield parts
    finally:
        parts.end()


def _adapter_settings(directory: Path, suppliers: dict[str, str]) -> dict[str, str]:
    receipts = f"127.0.0.1:{free_port()}"
    return {
        "KRR_ADAPTER_LEASE_SECONDS": str(LEASE_SECONDS),
        "KRR_ADAPTER_SETTLE_SECONDS": "4",
        "KRR_ADAPTER_MOST_READS_PER_SECOND": "10000",
        "KRR_ADAPTER_READ_IDLE_SECONDS": "0.2",
        "KRR_DIGIPOST_URL": suppliers["digipost"],
        "KRR_DIGIPOST_BROKER_ID": "1000",
        "KRR_DIGIPOST_KEY_FILE": str(directory / "digipost" / "sender-key.pem"),
        "KRR_DIGIPOST_DEADLINE_SECONDS": "2",
        "KRR_EBOKS_URL": suppliers["eboks"],
        "KRR_EBOKS_TOKEN_FILE": str(directory / "eboks" / "token"),
        "KRR_EBOKS_DEADLINE_SECONDS": "2",
        "KRR_EBOKS_LISTS_ACCOUNTS": "true",
        "KRR_EMAIL_HOST": "127.0.0.1",
        "KRR_EMAIL_PORT": suppliers["mail"].rpartition(":")[2],
        "KRR_EMAIL_TLS": "none",
        "KRR_EMAIL_GATEWAY_IS_SANDBOX": "true",
        "KRR_EMAIL_BOUNCES_LISTEN": f"127.0.0.1:{free_port()}",
        "KRR_EMAIL_DEADLINE_SECONDS": "2",
        "KRR_SMS_URL": suppliers["link"],
        "KRR_SMS_TOKEN_URL": suppliers["link"] + link.TOKEN_PATH,
        "KRR_SMS_CLIENT_ID": link.CLIENT_ID,
        "KRR_SMS_CLIENT_SECRET_FILE": str(directory / "link" / "client-secret"),
        "KRR_SMS_GATEWAY_IS_SANDBOX": "true",
        "KRR_SMS_RECEIPTS_LISTEN": receipts,
        "KRR_SMS_RECEIPTS_URL": f"http://{receipts}",
        "KRR_SMS_DEADLINE_SECONDS": "2",
    }


def free_port() -> int:
    """A port that was free a moment ago, below the ephemeral ones, which would collide."""
    # Tests in neighbouring processes begin far apart, so that none takes another's port.
    for port in range(12_000 + os.getpid() * 97 % 19_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if port not in _GIVEN:
                _GIVEN.add(port)
                return port
    raise RuntimeError("no free port")


_GIVEN: set[int] = set()
