"""Runs one adapter: `python -m adapters digipost`."""

import argparse
import importlib
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import grpc
import structlog
from krr.v1 import delivery_service_pb2 as pb
from krr_client import connect
from krr_client.telemetry import configure_telemetry
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient, filters
from pydantic import ValidationError

from adapters import digipost, eboks, email, letter, sms
from adapters.adapter import AccountReader, MailboxAdapter
from adapters.circuit_breaker import CircuitBreaker
from adapters.runner import Runner
from adapters.settings import AdapterSettings
from adapters.token_bucket import TokenBucket
from adapters.work import Work, comparison_work, mailbox_work, message_work

# Makes what an adapter runs; what must end after that is entered into the stack.
MakeRunners = Callable[[str, grpc.Channel, AdapterSettings, ExitStack], Sequence[Runner[Any]]]

# Leases are asked for several times a second, mostly in vain.
_NOT_TRACED = filters.any_of(
    filters.method_name("LeaseDeliveries"),
    filters.method_name("LeaseComparisons"),
    filters.method_name("LeaseMessages"),
)

# A sweep has days. One that goes on while the operator is away leaves persons unread.
_CONCURRENT_READS = 4
_READ_PAUSE_SECONDS = 30.0

# Each waits for its batch to be closed.
_CONCURRENT_LETTERS = 50

_log = structlog.get_logger()


def _mailbox(make_adapter: Callable[[], MailboxAdapter]) -> MakeRunners:
    def make(
        name: str, register: grpc.Channel, settings: AdapterSettings, _stack: ExitStack
    ) -> Sequence[Runner[Any]]:
        adapter, lease_seconds = make_adapter(), settings.adapter_lease_seconds
        deliveries = mailbox_work(name, adapter, register, lease_seconds, settings.adapter_settle_seconds)
        runners: list[Runner[Any]] = [_runner(deliveries, settings)]
        if isinstance(adapter, AccountReader):
            idle_seconds = settings.adapter_read_idle_seconds
            comparisons = comparison_work(name, adapter, register, lease_seconds, idle_seconds)
            runners.append(_reading_runner(comparisons, settings))
        return runners

    return make


def _sms(
    name: str, register: grpc.Channel, settings: AdapterSettings, stack: ExitStack
) -> Sequence[Runner[Any]]:
    sms_settings = sms.SmsSettings()
    messages = message_work(
        name,
        sms.chosen_gateway(sms_settings, register, settings.adapter_probe_seconds, stack),
        register,
        settings.adapter_lease_seconds,
        channel=pb.CHANNEL_SMS,
        gateway_is_sandbox=sms_settings.gateway_is_sandbox,
    )
    return [_runner(messages, settings)]


def _letter(
    name: str, register: grpc.Channel, settings: AdapterSettings, stack: ExitStack
) -> Sequence[Runner[Any]]:
    letter_settings = letter.LetterSettings()
    batches = stack.enter_context(letter.batches_in(letter_settings.folder, letter_settings.batch_seconds))
    messages = message_work(
        name,
        letter.PrintFolder(letter_settings, batches),
        register,
        settings.adapter_lease_seconds,
        channel=pb.CHANNEL_LETTER,
        gateway_is_sandbox=letter_settings.gateway_is_sandbox,
    )
    told = "adapter_concurrency" in settings.model_fields_set
    return [_runner(messages, settings, settings.adapter_concurrency if told else _CONCURRENT_LETTERS)]


def _email(
    name: str, register: grpc.Channel, settings: AdapterSettings, stack: ExitStack
) -> Sequence[Runner[Any]]:
    email_settings = email.EmailSettings()
    bounces = email.bounces_listener(email_settings.bounces_listen, email_settings.bounce_domain, register)
    stack.enter_context(bounces)
    messages = message_work(
        name,
        email.SmtpGateway(email_settings),
        register,
        settings.adapter_lease_seconds,
        channel=pb.CHANNEL_EMAIL,
        gateway_is_sandbox=email_settings.gateway_is_sandbox,
    )
    return [_runner(messages, settings)]


def _runner(work: Work[Any], settings: AdapterSettings, concurrency: int | None = None) -> Runner[Any]:
    most = settings.adapter_most_per_second
    return Runner(
        work,
        concurrency=concurrency or settings.adapter_concurrency,
        breaker=CircuitBreaker(long_pause=settings.adapter_probe_seconds),
        rate=TokenBucket(most) if most else None,
    )


def _reading_runner(work: Work[pb.Comparison], settings: AdapterSettings) -> Runner[Any]:
    """With threads and a breaker of its own: reading must not keep deliveries waiting."""
    return Runner(
        work,
        concurrency=_CONCURRENT_READS,
        least=_CONCURRENT_READS // 2,
        breaker=CircuitBreaker(pause=_READ_PAUSE_SECONDS, long_pause=settings.adapter_probe_seconds),
        rate=TokenBucket(settings.adapter_most_reads_per_second),
    )


ADAPTERS: dict[str, MakeRunners] = {
    "digipost": _mailbox(lambda: digipost.DigipostAdapter(digipost.DigipostSettings())),
    "eboks": _mailbox(lambda: eboks.adapter_for(eboks.EBoksSettings())),
    "sms": _sms,
    "email": _email,
    "letter": _letter,
}


def main() -> int:
    """Run the adapter that the command line names until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m adapters",
        description="Leases work from the register and brings it to one supplier, until SIGTERM or SIGINT.",
        epilog="Settings are environment variables: see adapters/settings.py and each adapter's own.",
    )
    parser.add_argument(
        "adapter",
        help=f"{', '.join(ADAPTERS)}; or module:Class, a mailbox operator's adapter of your own"
        " (adapters.adapter.MailboxAdapter, made without arguments; KRR_ADAPTER_NAME names it)",
    )
    chosen: str = parser.parse_args().adapter
    try:
        name, make = (chosen, ADAPTERS[chosen]) if chosen in ADAPTERS else _third_party(chosen)
    except (ImportError, AttributeError, ValueError):
        parser.error(f"no adapter {chosen!r}")
    try:
        settings = AdapterSettings()
        return _run(settings.adapter_name or name, make, settings)
    except ValidationError as error:
        # Without the values: one of them may be a secret.
        for problem in error.errors(include_input=False, include_url=False):
            where = "_".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"{error.title}, {where}: {problem['msg']}\n")
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{chosen}: {error}\n")
    return 2


def _third_party(chosen: str) -> tuple[str, MakeRunners]:
    module, class_name = chosen.split(":")
    adapter: Any = getattr(importlib.import_module(module), class_name)
    return class_name.lower(), _mailbox(adapter)


def _run(name: str, make: MakeRunners, settings: AdapterSettings) -> int:
    configure_telemetry(f"adapter-{name}", settings.trace_directory)
    instrumentor: Any = GrpcInstrumentorClient  # it has no types
    instrumentor(filter_=filters.negate(_NOT_TRACED)).instrument()
    given = settings.adapter_credential
    credential = given.get_secret_value() if given else f"Development adapter/{name}"
    stop = threading.Event()
    # A queue that a signal handler may put to at any moment; an Event is not.
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.put("signal"))
    with ExitStack() as stack:
        register = stack.enter_context(connect(settings.register_address, credential))
        runners = make(name, register, settings, stack)

        def run(runner: Runner[Any]) -> None:
            try:
                runner.run(stop)
            finally:
                ended.put("fault")

        threads = [threading.Thread(target=run, args=[runner], name="runner") for runner in runners]
        for thread in threads:
            thread.start()
        _log.info("adapter started", adapter=name)
        why = ended.get()
        stop.set()
        for thread in threads:
            thread.join()
    _log.info("adapter ended", adapter=name, why=why)
    return 0 if why == "signal" else 1


if __name__ == "__main__":
    sys.exit(main())
