"""Settings, from the environment."""

import ipaddress
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from server.domain.errors import InvalidValue
from server.domain.identifiers import parse_organisation_number

MOST_STEP_MONTHS = 60


class MailboxOperator(BaseModel):
    """A mailbox operator.

    organisation_number: the one in its credential.
    name: what citizens and public bodies read.
    adapter: the name under which its adapter leases deliveries, such as digipost.
    opens_accounts: whether it opens accounts for citizens who ask for one in the choice.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    organisation_number: str
    name: str = Field(min_length=1, max_length=100)
    adapter: str = Field(pattern="^[a-z][a-z0-9-]{0,63}$")
    opens_accounts: bool = False

    @field_validator("organisation_number")
    @classmethod
    def _organisation_number(cls, text: str) -> str:
        try:
            return parse_organisation_number(text)
        except InvalidValue as refusal:
            raise ValueError(refusal.reason.value) from None


class Settings(BaseSettings):
    """Each is read from the environment variable KRR_ and its name in capitals.

    database_url: SQLAlchemy URL, such as postgresql+psycopg://user@host/name.
    listen: host:port.
    development_credentials: believe callers who they say they are; on loopback only.
    synthetic_identifiers: take test persons (month + 80).
    mailbox_operators: operators beside those that the register came with, or other names for these;
        a list in JSON, [{"organisation_number": "...", "name": "...", "adapter": "..."}], and
        "opens_accounts": true where it does. One that was entered stays when the setting goes.
    switch_off_wait: how long an old operator's off waits for the new operator's on.
    sweep_days: in how many days the whole register is compared with each operator's side, over and
        over; 0 for only when the staff begins a sweep. A fraction is allowed.
    quiet_hours: hours by Norway's clocks in which only messages are sent that somebody waits for or must
        know at once: from the first to before the second, such as 21-8; empty for none.
    messages_per_day: how many messages one person is sent in 24 hours at most, codes not counted.
    reminders: whether the register reminds persons once a day to confirm contact info, without being
        told to by `krr remind`.
    reminder_steps: after how many months without word, such as 16,18.
    processes: servers that share the port, each pinned to a core; a caller's connection stays with
        one of them. Threads, streams, connections to the database and health are each one's own. 1
        pins the one server. Without it there is one, not pinned.
    worker_threads: calls served at the same time. Connections to the database: at most twice as
        many and 22 more, for each process; PostgreSQL's max_connections must allow for all.
    max_streams: callers who watch, wait or stream at the same time; each holds a thread.
    stream_stall_seconds: a stream whose caller neither sends nor takes for so long is cut off.
    witness_file: outlives the database and knows how far it was served; see server/witness.py.
    drain_seconds: how long calls under way may take when the server is told to end.
    test_accept_unsafe_postgresql: for tests on a PostgreSQL without fsync.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_")

    database_url: str
    listen: str = "127.0.0.1:50051"
    development_credentials: bool = False
    synthetic_identifiers: bool = False
    mailbox_operators: tuple[MailboxOperator, ...] = ()
    switch_off_wait: timedelta = timedelta(hours=24)
    sweep_days: float = Field(default=30, ge=0, le=365)
    quiet_hours: str = Field(default="21-8", pattern="^(([01]?[0-9]|2[0-3])-([01]?[0-9]|2[0-3]))?$")
    messages_per_day: int = Field(default=20, ge=1)
    reminders: bool = True
    reminder_steps: Annotated[tuple[int, ...], NoDecode] = (16, 18)
    processes: int | None = Field(default=None, ge=1, le=64)
    worker_threads: int = Field(default=16, ge=2, le=100)
    max_streams: int = Field(default=200, ge=1, le=2000)
    stream_stall_seconds: float = Field(default=30, ge=1)
    witness_file: Path = Path(".krr/witness")
    drain_seconds: float = Field(default=10, gt=0)
    trace_directory: Path = Path(".krr/traces")
    test_accept_unsafe_postgresql: bool = False

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: str) -> str:
        if not url.startswith(("postgresql://", "postgresql+psycopg://")):
            raise ValueError("not of the form postgresql+psycopg://user@host/name")
        return url

    @property
    def quiet_between(self) -> tuple[int, int] | None:
        """The first and the second of quiet_hours."""
        begins, _, ends = self.quiet_hours.partition("-")
        return (int(begins), int(ends)) if ends else None

    @field_validator("reminder_steps", mode="before")
    @classmethod
    def _split(cls, steps: object) -> object:
        return steps.split(",") if isinstance(steps, str) else steps

    @field_validator("reminder_steps")
    @classmethod
    def _rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if (
            not steps
            or list(steps) != sorted(set(steps))
            or not 1 <= steps[0] <= steps[-1] <= MOST_STEP_MONTHS
        ):
            raise ValueError(f"months from 1 to {MOST_STEP_MONTHS}, rising, such as 16,18")
        return steps

    @field_validator("processes")
    @classmethod
    def _on_linux(cls, processes: int | None) -> int | None:
        if processes is not None and sys.platform != "linux":
            raise ValueError("processes can be pinned, and share a port evenly, on Linux only")
        return processes

    @model_validator(mode="after")
    def _development_on_loopback_only(self) -> Self:
        if self.development_credentials and not _is_loopback(self.listen):
            raise ValueError("development credentials are for loopback only: set KRR_LISTEN=127.0.0.1:PORT")
        return self


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
