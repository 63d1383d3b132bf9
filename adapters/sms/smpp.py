"""A message centre that speaks SMPP 3.4, by one bound connection that is kept up.

It knows no message again, and no message by our reference: user_message_reference has 16 bits, and
not every centre gives it back. So a receipt tells the message by the centre's own id.

A text of several parts asks for the receipt of its last part only, whose id is the message's: parts
are handed over in order, and the phone shows the text once it has all.
"""

import asyncio
import random
import re
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import structlog
from krr.v1 import delivery_service_pb2 as pb
from krr.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from krr_client import RegisterError
from opentelemetry import trace
from smpplib import consts

from adapters.adapter import Misconfigured, Refused, Sent, TryLater, Unsure
from adapters.exchange import NotDone
from adapters.sms.expiry import time_left
from adapters.sms.parts import Alphabet, cost_class, split
from adapters.sms.settings import SmppSettings, SmsSettings
from adapters.sms.smpp_receipt import GATEWAY, is_receipt, receipt_from
from adapters.sms.smpp_session import Session, SessionLost, SessionOver
from adapters.texts import UnknownText, render

_CALL_SECONDS = 5.0
_UNBIND_SECONDS = 2.0

# Seconds between attempts to bind; the last one holds from there on.
_PAUSES = (1.0, 2.0, 5.0, 15.0, 30.0)

# Whoever the message is for: the centre refuses us, or what the settings say.
_REFUSES_US = {
    consts.SMPP_ESME_RALYBND,
    consts.SMPP_ESME_RBINDFAIL,
    consts.SMPP_ESME_RINVPASWD,
    consts.SMPP_ESME_RINVSYSID,
    consts.SMPP_ESME_RINVSRCADR,
    consts.SMPP_ESME_RINVSRCTON,
    consts.SMPP_ESME_RINVSRCNPI,
}
_REFUSES_MESSAGE = {consts.SMPP_ESME_RINVMSGLEN, consts.SMPP_ESME_RINVDSTADR}

# What a receipt is answered with.
_OK: int = consts.SMPP_ESME_ROK
_BRING_IT_AGAIN: int = consts.SMPP_ESME_RX_T_APPN
_NEVER: int = consts.SMPP_ESME_RX_P_APPN

# How the register says that no repetition will help.
_NEVER_TAKEN = frozenset({grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT})

_ALPHANUMERIC, _INTERNATIONAL, _E164 = 5, 1, 1
_DATA_CODINGS = {
    Alphabet.GSM_7: consts.SMPP_ENCODING_DEFAULT,
    Alphabet.UCS_2: consts.SMPP_ENCODING_ISO10646,
}

_log = structlog.get_logger()
_tracer = trace.get_tracer(__name__)


class SmppGateway:
    """Sends through the connection that smpp_gateway() keeps up. Threads may share it."""

    def __init__(self, settings: SmsSettings, smpp: SmppSettings, register: grpc.Channel) -> None:
        self.deadline_seconds = settings.deadline_of_each
        self._sender = settings.sender
        self._settings = smpp
        self._register = DeliveryServiceStub(register)
        self._tls = ssl.create_default_context(cafile=smpp.ca_file) if smpp.tls else None
        self._loop = asyncio.new_event_loop()
        # What follows is the loop's alone. Set as soon as it is known whether there is a session.
        self._is_known = asyncio.Event()
        self._session: Session | None = None
        self._why_none = TryLater("UNREACHABLE")

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over, part by part."""
        ends = time.monotonic() + self.deadline_seconds
        with _tracer.start_as_current_span(
            "smpp send",
            kind=trace.SpanKind.CLIENT,
            record_exception=False,
            set_status_on_exception=False,
        ):
            try:
                submits = self._submits(message)
            except UnknownText:
                # A newer adapter may know it.
                return TryLater("UNKNOWN_TEXT")
            if not submits:
                return Refused("EXPIRED")
            handing_over = self._hand_over(submits, cost_class(message.recipient), ends)
            return asyncio.run_coroutine_threadsafe(handing_over, self._loop).result()

    def _submits(self, message: pb.Message) -> list[dict[str, Any]]:
        """The submit_sm of each part; none for a message that is no news any more."""
        left = time_left(message)
        if left <= timedelta():
            return []
        text = split(render(message))
        count = len(text.parts)
        # The same at every attempt: a phone that has a part already takes it for that part again.
        reference = uuid.UUID(message.message_id).int & 0xFF
        return [
            {
                "source_addr_ton": _ALPHANUMERIC,
                "source_addr_npi": consts.SMPP_NPI_UNK,
                "source_addr": self._sender,
                "dest_addr_ton": _INTERNATIONAL,
                "dest_addr_npi": _E164,
                "destination_addr": message.recipient.removeprefix("+"),
                "esm_class": consts.SMPP_GSMFEAT_UDHI if count > 1 else 0,
                "validity_period": (datetime.now(UTC) + left).strftime("%y%m%d%H%M%S000+"),
                "registered_delivery": int(number == count),
                "data_coding": _DATA_CODINGS[text.alphabet],
                "short_message": (bytes([5, 0, 3, reference, count, number]) if count > 1 else b"")
                + text.alphabet.encode(part),
            }
            for number, part in enumerate(text.parts, 1)
        ]

    async def _hand_over(
        self, submits: list[dict[str, Any]], cost: pb.CostClass.ValueType, ends: float
    ) -> Sent | TryLater | Refused:
        # Half of the time for the session: what was not sent is thus told from what perhaps was.
        try:
            async with asyncio.timeout((ends - time.monotonic()) / 2):
                await self._is_known.wait()
        except TimeoutError:
            return TryLater("UNREACHABLE")
        session, its_id = self._session, b""
        if session is None:
            return self._why_none
        for number, submit in enumerate(submits, 1):
            # Without its last part the phone shows nothing, whatever became of the others.
            lost = Unsure if number == len(submits) else TryLater
            try:
                async with asyncio.timeout(ends - time.monotonic()):
                    answer = await session.request("submit_sm", **submit)
            except SessionOver:
                return TryLater("UNREACHABLE")
            except SessionLost:
                return lost("ANSWER_LOST")
            except TimeoutError:
                return lost("TIMEOUT")
            if answer.status != consts.SMPP_ESME_ROK:
                return _refusal("SMPP", answer.status)
            its_id = getattr(answer, "message_id", None) or b""
        if not re.fullmatch(rb"[!-~]{1,100}", its_id):
            # Taken, but what it is called there did not reach us.
            return Unsure("ANSWER_LOST")
        return Sent(GATEWAY, its_id.decode(), len(submits), cost)

    # --- the connection

    def run(self, stopping: asyncio.Event) -> None:
        """Keep the connection up until told to stop; in a thread of its own."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._run(stopping))

    def stop(self, stopping: asyncio.Event) -> None:
        """Tell run() to stop, from any thread."""
        self._loop.call_soon_threadsafe(stopping.set)

    async def _run(self, stopping: asyncio.Event) -> None:
        keeping = asyncio.create_task(self._keep_bound())
        await stopping.wait()
        if self._session:
            with suppress(TimeoutError, SessionLost, SessionOver):
                async with asyncio.timeout(_UNBIND_SECONDS):
                    await self._session.request("unbind")
        keeping.cancel()
        await asyncio.wait([keeping])

    async def _keep_bound(self) -> None:
        failures = 0
        while True:
            try:
                running, session = await self._bind()
            except NotDone as not_done:
                outcome = not_done.of_read
                if not self._is_known.is_set() or outcome != self._why_none:
                    _log.error("smpp not bound", error_code=outcome.error_code)
                self._why_none = outcome
                self._is_known.set()
                pause = _PAUSES[min(failures, len(_PAUSES) - 1)] * random.uniform(0.5, 1)
                failures += 1
                await asyncio.sleep(
                    self._settings.refused_seconds if isinstance(outcome, Misconfigured) else pause
                )
                continue
            failures = 0
            self._session = session
            self._is_known.set()
            _log.info("smpp bound")
            try:
                # Awaited itself, it would be given our own cancellation, and could swallow that.
                await asyncio.wait([running])
            finally:
                self._session = None
                self._is_known.clear()
                running.cancel()
                await asyncio.wait([running])
            fault = None if running.cancelled() else running.exception()
            _log.warning("smpp session ended", fault=type(fault).__name__ if fault else None)
            # A centre that binds and hangs up would be asked without pause.
            await asyncio.sleep(_PAUSES[0])

    async def _bind(self) -> tuple[asyncio.Task[None], Session]:
        """A bound session, and what runs it. Raises NotDone."""
        settings = self._settings
        password = self._password()
        try:
            async with asyncio.timeout(self.deadline_seconds):
                reader, writer = await asyncio.open_connection(settings.host, settings.port, ssl=self._tls)
        except ssl.SSLCertVerificationError:
            raise NotDone(Misconfigured("CERTIFICATE_REFUSED")) from None
        except OSError:
            raise NotDone(TryLater("UNREACHABLE")) from None
        session = Session(reader, writer, self._receive, settings.enquire_seconds)
        running = asyncio.create_task(session.run())
        status = None
        try:
            async with asyncio.timeout(self.deadline_seconds):
                answer = await session.request(
                    "bind_transceiver",
                    system_id=settings.system_id,
                    password=password,
                    system_type=settings.system_type,
                    interface_version=consts.SMPP_VERSION_34,
                )
            status = answer.status
        except (TimeoutError, SessionLost, SessionOver):
            raise NotDone(TryLater("SMPP_BIND_LOST")) from None
        finally:
            if status != consts.SMPP_ESME_ROK:
                running.cancel()
        if status != consts.SMPP_ESME_ROK:
            raise NotDone(_refusal("SMPP_BIND", status))
        return running, session

    def _password(self) -> str:
        try:
            password = self._settings.password_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise NotDone(TryLater("NO_PASSWORD")) from None
        if len(password) > 8:
            raise NotDone(Misconfigured("PASSWORD_TOO_LONG"))
        return password

    # --- receipts

    async def _receive(self, deliver_sm: Any) -> int:
        """Record a receipt; the command status that says how it went."""
        # Else somebody answers, whom nobody here reads.
        receipt = receipt_from(deliver_sm) if is_receipt(deliver_sm) else None
        return await asyncio.to_thread(self._record, receipt) if receipt else _OK

    def _record(self, receipt: pb.RecordReceiptRequest) -> int:
        try:
            self._register.RecordReceipt(receipt, timeout=_CALL_SECONDS)
        except RegisterError as error:
            return _NEVER if error.status in _NEVER_TAKEN else _BRING_IT_AGAIN
        return _OK


def _refusal(prefix: str, status: int) -> TryLater | Refused:
    # The register takes no code that holds six digits.
    code = f"{prefix}_{min(status, 0xFFFF):02X}"
    if status in _REFUSES_US:
        return Misconfigured(code)
    return Refused(code) if status in _REFUSES_MESSAGE else TryLater(code)


@contextmanager
def smpp_gateway(settings: SmsSettings, smpp: SmppSettings, register: grpc.Channel) -> Iterator[SmppGateway]:
    """A gateway whose connection is kept up, and whose receipts are recorded, within the context."""
    gateway, stopping = SmppGateway(settings, smpp, register), asyncio.Event()
    thread = threading.Thread(target=gateway.run, args=[stopping], name="smpp")
    thread.start()
    try:
        yield gateway
    finally:
        gateway.stop(stopping)
        thread.join()
