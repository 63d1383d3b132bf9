"""The parts that `krr up` runs: what each is started with, and how to tell that it works."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from signal import SIGINT

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc

from krr_cli.sandbox import Supplier, address, ask
from krr_cli.supervisor import Part

_PROBE_SECONDS = 1.0
# Less than what the supervisor waits before it kills.
_DRAIN_SECONDS = "5"

# What the sandboxes of Digipost and of the SMS gateway take.
_BROKER_ID = "1000"
_CLIENT_ID = "krr-sandbox"
_TOKEN_PATH = "/auth/realms/CPaaS/protocol/openid-connect/token"
_POPULATION_REGISTER_PATH = "/folkeregisteret/offentlig-med-hjemmel/api/v1"


def register_address() -> str:
    """Where the register listens, host:port."""
    return os.environ.get("KRR_LISTEN") or "127.0.0.1:50051"


def listening_addresses() -> dict[str, str]:
    """Every address that the parts listen at, by the variable that moves it."""
    suppliers = {supplier.variable: address(supplier) for supplier in Supplier}
    return {
        "KRR_LISTEN": register_address(),
        **suppliers,
        "KRR_SANDBOX_MAILBOX_SMTP": _smtp_address(),
        "KRR_SMS_RECEIPTS_LISTEN": _receipts_address(),
        "KRR_EMAIL_BOUNCES_LISTEN": _bounces_address(),
    }


def postgresql(data: Path, ready: Callable[[], bool]) -> Part:
    """A private PostgreSQL on data."""
    # SIGTERM would wait for its clients to leave by themselves.
    return Part("postgresql", postgresql_command(data), ready=ready, end_signal=SIGINT)


def postgresql_command(data: Path) -> list[str]:
    """Runs a private PostgreSQL on data; with "--url" it waits for that and prints its address."""
    return _python("server.store.private_postgres", str(data))


def migration(database_url: str, traces: Path) -> Part:
    """Brings the database to the newest schema."""
    return Part("migrate", _python("server", "migrate"), _environment(database_url, traces))


def server(database_url: str, traces: Path, witness: Path) -> Part:
    """The register."""
    environment = _environment(database_url, traces) | {"KRR_WITNESS_FILE": str(witness)}
    return Part("server", _python("server"), environment, ready=_serves)


def sandboxes(data: Path) -> list[Part]:
    """The sandbox suppliers, each with its accounts and keys in a folder of data."""
    return [_sandbox(supplier, data / supplier) for supplier in Supplier]


def adapters(data: Path, traces: Path) -> list[Part]:
    """The adapters, which call the sandboxes of `sandboxes(data)` with the keys made there."""
    settings = {
        "digipost": {
            "KRR_DIGIPOST_URL": f"http://{address(Supplier.DIGIPOST)}",
            "KRR_DIGIPOST_BROKER_ID": _BROKER_ID,
            "KRR_DIGIPOST_KEY_FILE": str(data / "digipost" / "sender-key.pem"),
        },
        "eboks": {
            "KRR_EBOKS_URL": f"http://{address(Supplier.EBOKS)}",
            "KRR_EBOKS_TOKEN_FILE": str(data / "eboks" / "token"),
            "KRR_EBOKS_LISTS_ACCOUNTS": "true",
        },
        "sms": {
            "KRR_SMS_URL": f"http://{address(Supplier.LINK)}",
            "KRR_SMS_TOKEN_URL": f"http://{address(Supplier.LINK)}{_TOKEN_PATH}",
            "KRR_SMS_CLIENT_ID": _CLIENT_ID,
            "KRR_SMS_CLIENT_SECRET_FILE": str(data / "link" / "client-secret"),
            "KRR_SMS_GATEWAY_IS_SANDBOX": "true",
            "KRR_SMS_RECEIPTS_LISTEN": _receipts_address(),
            "KRR_SMS_RECEIPTS_URL": f"http://{_receipts_address()}",
        },
        "email": {
            "KRR_EMAIL_HOST": _host_and_port(_smtp_address())[0],
            "KRR_EMAIL_PORT": str(_host_and_port(_smtp_address())[1]),
            "KRR_EMAIL_CA_FILE": str(data / "mailbox" / "certificate.pem"),
            "KRR_EMAIL_GATEWAY_IS_SANDBOX": "true",
            "KRR_EMAIL_BOUNCES_LISTEN": _bounces_address(),
        },
        "letter": {
            "KRR_LETTER_FOLDER": str(letters(data)),
            "KRR_LETTER_GATEWAY_IS_SANDBOX": "true",
            "KRR_LETTER_POPULATION_REGISTER_URL": (
                f"http://{address(Supplier.POPULATION_REGISTER)}{_POPULATION_REGISTER_PATH}"
            ),
            "KRR_LETTER_POPULATION_REGISTER_TOKEN_FILE": str(data / "population-register" / "token"),
        },
    }
    every = os.environ | {"KRR_REGISTER": register_address(), "KRR_TRACE_DIRECTORY": str(traces)}
    # Adapters hold no database password.
    every.pop("KRR_DATABASE_URL", None)
    ready = {
        "sms": lambda: _listens(_receipts_address()),
        "email": lambda: _listens(_bounces_address()),
    }
    return [
        Part(f"adapter-{name}", _python("adapters", name), every | own, ready.get(name, lambda: True))
        for name, own in settings.items()
    ]


def letters(data: Path) -> Path:
    """Where the letters are put. Not where KRR_LETTER_FOLDER says: a print house may take them there."""
    return data / "letters"


def is_free(listen: str) -> bool:
    """Whether a part can listen at host:port."""
    host, port = _host_and_port(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _receipts_address() -> str:
    return os.environ.get("KRR_SMS_RECEIPTS_LISTEN") or "127.0.0.1:50064"


def _smtp_address() -> str:
    return os.environ.get("KRR_SANDBOX_MAILBOX_SMTP") or "127.0.0.1:50068"


def _bounces_address() -> str:
    return os.environ.get("KRR_EMAIL_BOUNCES_LISTEN") or "127.0.0.1:50065"


def _environment(database_url: str, traces: Path) -> dict[str, str]:
    return (
        {
            "KRR_DRAIN_SECONDS": _DRAIN_SECONDS,
            # What is tried by hand is seen by itself: `krr remind` does it.
            "KRR_REMINDERS": "false",
        }
        | os.environ
        | {
            "KRR_DATABASE_URL": database_url,
            "KRR_LISTEN": register_address(),
            "KRR_DEVELOPMENT_CREDENTIALS": "true",
            "KRR_SYNTHETIC_IDENTIFIERS": "true",
            "KRR_TRACE_DIRECTORY": str(traces),
        }
    )


def _sandbox(supplier: Supplier, data: Path) -> Part:
    arguments = ["--listen", address(supplier), "--data", str(data), "--register", register_address()]
    return Part(
        f"sandbox-{supplier}",
        _python("adapters.sandbox", supplier, *arguments),
        os.environ | {"KRR_SANDBOX_MAILBOX_SMTP": _smtp_address()},
        ready=lambda: _answers(supplier),
    )


def _answers(supplier: Supplier) -> bool:
    try:
        ask(supplier, "GET", "behaviour")
    except httpx.HTTPError:
        return False
    return True


def _serves() -> bool:
    # First this: a channel that finds nobody waits for a second before it tries again.
    if not _listens(register_address()):
        return False
    with grpc.insecure_channel(register_address()) as channel:
        try:
            health = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]  # its types lack it
                health_pb2.HealthCheckRequest(), timeout=_PROBE_SECONDS
            )
        except grpc.RpcError:
            return False
    return bool(health.status == health_pb2.HealthCheckResponse.SERVING)


def _listens(listen: str) -> bool:
    try:
        socket.create_connection(_host_and_port(listen), timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)
