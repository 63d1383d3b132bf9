"""What every adapter is told by its environment."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class AdapterSettings(BaseSettings):
    """Settings of any adapter, from environment variables KRR_….

    KRR_REGISTER: the register's address, host:port.
    KRR_TRACE_DIRECTORY: where spans go when no OTLP endpoint is set.
    KRR_ADAPTER_CREDENTIAL: the adapter's credential at the register; without it the one that
        a register in development accepts.
    KRR_ADAPTER_NAME: the name by which the register knows the adapter; without it the one on the
        command line, or the class's in small letters.
    KRR_ADAPTER_CONCURRENCY: how many pieces of work at once.
    KRR_ADAPTER_LEASE_SECONDS: how long a piece of work is leased. An attempt may take two
        thirds of it.
    KRR_ADAPTER_MOST_PER_SECOND: how many pieces of work are begun in a second on average, and
        at once after a pause; each is a few requests to the supplier. Unset for as many as can be.
    KRR_ADAPTER_MOST_READS_PER_SECOND: how many persons, or parts of its list, a sweep reads at a
        mailbox operator in a second on average, beside the deliveries; each is a request.
    KRR_ADAPTER_READ_IDLE_SECONDS: how long to wait before asking again where no sweep wants anything.
    KRR_ADAPTER_SETTLE_SECONDS: for how long a call to a mailbox operator that was given up may
        still take effect there: so long a person who has switched since is looked at again.
    KRR_ADAPTER_PROBE_SECONDS: how long an adapter that its supplier refuses (a wrong key, a
        missing permission) waits from one attempt to the next.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_")

    register_address: str = Field(default="127.0.0.1:50051", validation_alias="KRR_REGISTER")
    trace_directory: Path = Path(".krr/traces")
    adapter_credential: SecretStr | None = None
    adapter_name: str | None = Field(default=None, pattern="^[a-z][a-z0-9-]{0,63}$")
    adapter_concurrency: int = Field(default=8, ge=1, le=100)
    adapter_lease_seconds: float = Field(default=30.0, ge=1, le=600)
    adapter_most_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    adapter_most_reads_per_second: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    adapter_read_idle_seconds: float = Field(default=5.0, gt=0, le=3600)
    adapter_settle_seconds: float = Field(default=60.0, ge=0, le=3600)
    adapter_probe_seconds: float = Field(default=300.0, ge=1, le=86_400)


def _protected(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not (parts.scheme == "https" and host) and not (parts.scheme == "http" and is_this_machine(host)):
        raise ValueError("must begin with https://, unless it is on this machine")
    return url.rstrip("/")


def is_this_machine(host: str) -> bool:
    """Whether the host, a name or an address, is the one that this runs on."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


# Where identity numbers, phone numbers and secrets may go; kept without a slash at the end.
ProtectedUrl = Annotated[str, AfterValidator(_protected)]
DeadlineSeconds = Annotated[float, Field(gt=0)]
