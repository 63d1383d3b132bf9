"""The register's server, and the only place that builds it.

    python -m server [--processes N]
                                serve; with N processes, each pinned to a core
    python -m server migrate    bring the database to the newest schema, then end
    python -m server epoch show|keep|new
                                after a restore: where the register stands, and what to make of it

Settings are environment variables; server/config.py lists them.
"""

import argparse
import gc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from krr.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    citizen_service_pb2,
    citizen_service_pb2_grpc,
    delivery_service_pb2,
    delivery_service_pb2_grpc,
    mailbox_operator_service_pb2,
    mailbox_operator_service_pb2_grpc,
    register_service_pb2,
    register_service_pb2_grpc,
)
from krr_client.telemetry import configure_logs, configure_telemetry
from opentelemetry import trace
from pydantic import ValidationError
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from server import access, epoch, processes
from server.admin_service import AdminService
from server.call import MAX_SECONDS, CallInterceptor
from server.change_counter import ChangeCounter
from server.citizen_service import CitizenService
from server.config import Settings
from server.delivery_service import DeliveryService
from server.domain.caller import Caller, CallerKind
from server.domain.identifiers import PersonIdentifier, parse_person_identifier
from server.domain.rules import date_in_norway
from server.encoded_person import encode_person
from server.epoch_watch import EpochWatch
from server.feed import Feed
from server.health import DatabaseHealth, Health
from server.jobs.background import Background
from server.jobs.encode_persons import encode_persons
from server.jobs.recount_shared_contact import recount_shared_contact
from server.jobs.remind_stale_contact import StaleContactReminders
from server.jobs.shared_contact_campaign import SharedContactCampaigns
from server.jobs.watch_certificates import CertificateWatch
from server.mailbox_operator_service import MailboxOperatorService
from server.register_service import RegisterService
from server.store import schema
from server.store.epoch import RestoredDatabase
from server.store.mailbox_operators import AdapterTaken, enter_mailbox_operators
from server.store.message_outcomes import forget_early_receipts
from server.store.person_import import forget_old_imports
from server.store.store import Store
from server.store.verification import forget_old_codes
from server.streams import Streams
from server.tokens import Tokens
from server.witness import BrokenWitness, Witness

_OBJECTS_BETWEEN_COLLECTIONS = 50_000
_TIDY_EVERY_SECONDS = 600
_TIDY = Caller(CallerKind.REGISTER, "tidy")
_STREAM_CONNECTIONS = 8
_CANCEL_SECONDS = 5.0

_log = structlog.get_logger()

_SERVICES = [
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (register_service_pb2, "RegisterService"),
        (citizen_service_pb2, "CitizenService"),
        (mailbox_operator_service_pb2, "MailboxOperatorService"),
        (delivery_service_pb2, "DeliveryService"),
        (admin_service_pb2, "AdminService"),
    )
]

_OPTIONS = [
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.max_connection_idle_ms", 15 * 60_000),
    # Clients reconnect now and then, so that a new server behind a balancer gets its share.
    ("grpc.max_connection_age_ms", 60 * 60_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    ("grpc.server_handshake_timeout_ms", 5_000),
]


class Server:
    """The register, serving; `port` is where. Ends with end(), which may take drain_seconds.

    give_up: called with the reason when it must be ended, since it can serve no longer.
    shares_port: with others, whose parent holds the port.

    Raises PolicyGap, UnsafeDatabase, RestoredDatabase, BrokenWitness, AdapterTaken, OSError
    (the port is taken) or DBAPIError.
    """

    def __init__(
        self,
        settings: Settings,
        give_up: Callable[[str], None] = lambda _: None,
        *,
        shares_port: bool = False,
    ) -> None:
        access.check_policy(
            f"{service.full_name}/{method.name}" for service in _SERVICES for method in service.methods
        )
        self._drain_seconds = settings.drain_seconds
        witness = Witness(settings.witness_file)
        with epoch.transaction(settings) as connection:
            standing = epoch.open_epoch(connection, witness)
            enter_mailbox_operators(connection, settings.mailbox_operators)
        self._store = Store(
            settings.database_url,
            encode_person,
            # One each for the calls, for the counter, for tidying and for the jobs, and some for the
            # streams: they read or write now and then.
            connections=settings.worker_threads + 6 + _STREAM_CONNECTIONS,
            require_durable=not settings.test_accept_unsafe_postgresql,
        )
        self._accept_synthetic = settings.synthetic_identifiers
        authenticate = partial(
            access.authenticate,
            development=settings.development_credentials,
            parse_identifier=self._parse_identifier,
        )
        self._epoch_watch = EpochWatch(self._store, witness, standing, give_up)
        self._counter = ChangeCounter(self._epoch_watch.read)
        self._jobs: list[Background] = [
            recount_shared_contact(self._store, _now),
            encode_persons(self._store),
        ]
        if settings.reminders:
            self._jobs.append(StaleContactReminders(self._store, _now, settings.reminder_steps).background)
        self._jobs.append(SharedContactCampaigns(self._store, _now).background)
        self._certificates = CertificateWatch(self._store, _now)
        self._streams = Streams(settings.max_streams, settings.stream_stall_seconds)
        self._server = grpc.server(
            ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="call"),
            interceptors=[CallInterceptor(authenticate, self._streams)],
            # Else a second server on the port must fail, not take every other call.
            options=[("grpc.so_reuseport", int(shares_port)), *_OPTIONS],
        )
        self._add_services(settings)
        health = Health()
        health_pb2_grpc.add_HealthServicer_to_server(health, self._server)
        names = [service.full_name for service in _SERVICES]
        reflection.enable_server_reflection(
            [*names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
            self._server,
        )
        try:
            self.port = self._server.add_insecure_port(settings.listen)
        except RuntimeError:
            raise OSError(f"cannot listen on {settings.listen}: is another server there?") from None
        self._health = DatabaseHealth(self._counter, health, names)
        parts: list[Any] = [self._counter, self._streams, self._health, *self._jobs, self._server]
        for part in parts:
            part.start()

    def _add_services(self, settings: Settings) -> None:
        shared = (self._store, Tokens(self._store.epoch), _now, self._parse_identifier)
        changes = Feed(self._store.read_encoded, self._counter, _STREAM_CONNECTIONS)
        mailboxes = Feed(self._store.read, self._counter, _STREAM_CONNECTIONS)
        # Any: the interceptor hands services a Call in place of gRPC's context, so they are not
        # of the generated servicer types.
        services: list[tuple[Any, Any]] = [
            (
                register_service_pb2_grpc.add_RegisterServiceServicer_to_server,
                RegisterService(*shared[:3], self._parser_of_today, changes),
            ),
            (citizen_service_pb2_grpc.add_CitizenServiceServicer_to_server, CitizenService(*shared)),
            (
                mailbox_operator_service_pb2_grpc.add_MailboxOperatorServiceServicer_to_server,
                MailboxOperatorService(*shared, mailboxes),
            ),
            (
                delivery_service_pb2_grpc.add_DeliveryServiceServicer_to_server,
                DeliveryService(
                    self._store,
                    _now,
                    self._parse_identifier,
                    settings.switch_off_wait,
                    timedelta(days=settings.sweep_days),
                    settings.quiet_between,
                    settings.messages_per_day,
                ),
            ),
            (
                admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
                AdminService(*shared, settings.reminder_steps),
            ),
        ]
        for add_to_server, service in services:
            add_to_server(service, self._server)

    def _parser_of_today(self) -> Callable[[str], PersonIdentifier]:
        return partial(
            parse_person_identifier,
            accept_synthetic=self._accept_synthetic,
            today=_date_in_norway(int(time.time())),
        )

    def _parse_identifier(self, text: str) -> PersonIdentifier:
        return self._parser_of_today()(text)

    def tidy(self) -> None:
        """Delete what is kept no longer, and look whether certificates expire. Raises Refusal where
        the database is away.
        """
        forgotten = self._store.forget_old_answers(deadline=time.monotonic() + MAX_SECONDS)
        imports = self._store.write(_TIDY, forget_old_imports, deadline=time.monotonic() + MAX_SECONDS)
        receipts = self._store.write(_TIDY, forget_early_receipts, deadline=time.monotonic() + MAX_SECONDS)
        codes = self._store.write(_TIDY, forget_old_codes, deadline=time.monotonic() + MAX_SECONDS)
        _log.info(
            "tidied",
            answers_forgotten=forgotten,
            imports_forgotten=imports,
            receipts_forgotten=receipts,
            codes_forgotten=codes,
        )
        self._certificates.look(time.monotonic() + MAX_SECONDS)

    def end(self) -> None:
        """Take no new calls, let those under way finish, close the database."""
        self._health.end()
        ended = self._server.stop(self._drain_seconds)
        for job in self._jobs:
            job.end()
        # Those who watch and wait are told to go on elsewhere.
        self._counter.end()
        self._streams.end()
        # gRPC should have cancelled the rest by then; if it is mistaken, the server ends all the same.
        ended.wait(self._drain_seconds + _CANCEL_SECONDS)
        self._streams.pool.shutdown(wait=False)
        self._epoch_watch.end()
        self._store.close()


def _now() -> datetime:
    return datetime.now(UTC)


# Asked for with each identifier.
@lru_cache(maxsize=1)
def _date_in_norway(second: int) -> date:
    return date_in_norway(datetime.fromtimestamp(second, UTC))


def migrate(settings: Settings) -> None:
    """Bring the database to the newest schema."""
    with create_engine(
        settings.database_url, poolclass=NullPool, hide_parameters=True
    ).connect() as connection:
        revision = schema.migrate(connection)
    _log.info("migrated", schema=revision)


def serve(settings: Settings, place: processes.Place | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or until the server gives up.

    place: among the processes that share the port.
    """
    # Why to end; empty where a signal asked for it. A queue that a signal handler may put to
    # at any moment; an Event is not.
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reasons.put(""))
    processes.hear_signals()
    server = Server(settings, reasons.put, shares_port=place is not None)
    # What is there by now stays, and calls leave next to no cycles: to look for them every 700
    # objects, as Python does, costs an import a tenth of its time.
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    if place is None:
        _log.info("serving", listen=settings.listen, port=server.port)
    else:
        _log.info("process_serving", process=place.number, port=server.port)
        place.tell_that_it_serves()
    threading.Thread(target=_tidy_for_ever, args=(server,), name="tidy", daemon=True).start()
    reason = reasons.get()
    server.end()
    _log.info("ended", reason=reason)
    # A call that hangs with its database was cancelled, but its thread cannot be, and Python
    # would wait for it.
    provider: Any = trace.get_tracer_provider()
    provider.shutdown()
    if reason:
        sys.stderr.write(f"{reason}\n")
        sys.stderr.flush()
    os._exit(1 if reason else 0)


def serve_together(settings: Settings) -> None:
    """Have several processes serve until SIGTERM or SIGINT, or until one gives up."""
    sys.exit(processes.run(settings.listen, settings.processes or 1))


def _tidy_for_ever(server: Server) -> None:
    while True:
        try:
            server.tidy()
        except Exception as fault:
            # Only the type, as everywhere; what is left over waits for the next time.
            _log.warning("not_tidied", exception=type(fault).__name__)
        time.sleep(_TIDY_EVERY_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m server", usage=__doc__, allow_abbrev=False)
    parser.add_argument("command", nargs="*")
    parser.add_argument("--processes")
    # From a parent to its children only.
    parser.add_argument("--process", type=int)
    parser.add_argument("--parent", type=int)
    arguments = parser.parse_args()
    place = None
    if arguments.parent is not None:
        place = processes.Place(arguments.process, arguments.parent)
        place.take()
    commands: dict[tuple[str, ...], Callable[[Settings], None]] = {
        (): serve,
        ("migrate",): migrate,
        ("epoch", "show"): epoch.show,
        ("epoch", "keep"): epoch.keep,
        ("epoch", "new"): epoch.new,
    }
    command = commands.get(tuple(arguments.command))
    if command is None:
        sys.exit((__doc__ or "").strip())
    try:
        settings = Settings(**({"processes": arguments.processes} if arguments.processes else {}))
    except ValidationError as error:
        # Names of settings only: their values may be secret.
        sys.exit(
            "; ".join(f"{'_'.join(('KRR', *map(str, e['loc']))).upper()}: {e['msg']}" for e in error.errors())
        )
    count = settings.processes if command is serve else None
    if place is None and count is not None and count > 1:
        configure_logs()
        command = serve_together
    else:
        if place is not None:
            command = partial(serve, place=place)
        elif count is not None:
            processes.pin(1)
        configure_telemetry("server", settings.trace_directory, place.number if place else None)
    try:
        command(settings)
    except (
        access.PolicyGap,
        schema.UnsafeDatabase,
        RestoredDatabase,
        BrokenWitness,
        AdapterTaken,
        OSError,
    ) as error:
        sys.exit(str(error))
    except DBAPIError as error:
        sys.exit(f"the database at KRR_DATABASE_URL does not answer: {type(error.orig).__name__}")
    except SQLAlchemyError as error:
        sys.exit(f"the database at KRR_DATABASE_URL cannot be used: {type(error).__name__}")


if __name__ == "__main__":
    main()
