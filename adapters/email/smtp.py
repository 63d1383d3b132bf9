"""Sends e-mail by SMTP (RFC 5321), one connection for each message."""

import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime

from krr.v1 import delivery_service_pb2 as pb
from opentelemetry import trace

from adapters.adapter import Misconfigured, Refused, Sent, TryLater, Unsure
from adapters.email.settings import EmailSettings
from adapters.texts import UnknownText, render_email

GATEWAY = "SMTP"

_tracer = trace.get_tracer(__name__)


class SmtpGateway:
    """Hands one message over per call. A mail server knows no message again: each that it took is sent."""

    def __init__(self, settings: EmailSettings) -> None:
        self.deadline_seconds = settings.deadline_seconds
        self._settings = settings

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """Hand the message over; its message_id is part of the Message-ID, on every attempt."""
        try:
            mail = _mail(message, self._settings)
        except UnknownText:
            # A newer adapter may know it.
            return TryLater("UNKNOWN_TEXT")
        except ValueError:
            # As the headers' own rules say; what the register takes as an address they take too.
            return Refused("INVALID_ADDRESS")
        with _tracer.start_as_current_span(
            "smtp", kind=trace.SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ):
            return _Attempt(self._settings).send(mail, message.recipient, self._return_address(message))

    def _return_address(self, message: pb.Message) -> str:
        return f"bounce+{message.receipt_token}@{self._settings.bounce_domain}"


class _Attempt:
    """One attempt: what was last asked of the server decides what its silence means."""

    def __init__(self, settings: EmailSettings) -> None:
        self._settings = settings
        self._handed_over = False

    def send(self, mail: EmailMessage, recipient: str, return_address: str) -> Sent | TryLater | Refused:
        try:
            with self._session() as server:
                utf8 = [] if recipient.isascii() else ["SMTPUTF8"]
                if utf8 and not server.has_extn("smtputf8"):
                    return Refused("NO_SMTPUTF8")
                self._demand(server.mail(return_address, utf8), of_us=True)
                self._demand(server.rcpt(recipient))
                code, _ = server.docmd("DATA")
                if code != 354:
                    return _outcome(code)
                # From here on the server may have the whole message.
                self._handed_over = True
                server.send(_as_data(mail, utf8=bool(utf8)))
                code, _ = server.getreply()
                self._handed_over = False
                if code != 250:
                    return _outcome(code)
        except _Ended as ended:
            return ended.outcome
        except ssl.SSLCertVerificationError:
            return Misconfigured("CERTIFICATE_REFUSED")
        except smtplib.SMTPNotSupportedError:
            return Misconfigured("NOT_SUPPORTED")
        except smtplib.SMTPAuthenticationError as refused:
            return _outcome(refused.smtp_code, of_us=True)
        except (OSError, smtplib.SMTPException) as error:
            if self._handed_over:
                return Unsure("TIMEOUT" if isinstance(error, TimeoutError) else "ANSWER_LOST")
            return TryLater("UNREACHABLE")
        return Sent(GATEWAY, mail["Message-ID"].strip("<>"), 1, pb.COST_CLASS_EMAIL)

    @contextmanager
    def _session(self) -> Iterator[smtplib.SMTP]:
        settings = self._settings
        server = _Server(settings.host, timeout=settings.deadline_seconds / 2)
        # smtplib's limit is for each read, which an answer that trickles outlasts.
        cut = threading.Timer(settings.deadline_seconds, _cut, [server])
        cut.daemon = True
        cut.start()
        try:
            self._demand(server.connect(settings.host, settings.port), of_us=True)
            self._demand(server.ehlo(), of_us=True)
            if settings.tls == "starttls":
                self._demand(server.starttls(context=_tls(settings)), of_us=True)
                self._demand(server.ehlo(), of_us=True)
            if settings.user and settings.password_file:
                try:
                    password = settings.password_file.read_text("ascii").strip()
                except (OSError, UnicodeDecodeError):
                    raise _Ended(TryLater("NO_PASSWORD")) from None
                server.login(settings.user, password)
            yield server
        finally:
            cut.cancel()
            server.close()

    def _demand(self, answer: tuple[int, bytes], *, of_us: bool = False) -> None:
        if not 200 <= answer[0] < 300:
            raise _Ended(_outcome(answer[0], of_us=of_us))


class _Server(smtplib.SMTP):
    """Not connected before it is told to be, so that it can be cut at any moment from then on."""

    def __init__(self, host: str, timeout: float) -> None:
        super().__init__(timeout=timeout)
        # Against which its certificate is held.
        self._host = host


class _Ended(Exception):
    def __init__(self, outcome: TryLater | Refused) -> None:
        super().__init__(outcome.error_code)
        self.outcome = outcome


def _outcome(code: int, *, of_us: bool = False) -> TryLater | Refused:
    """What a refusal means: 4xx is deferred, 5xx is final (RFC 5321 § 4.2.1).

    of_us: whether the server refused the sender, whoever the mail is to.
    """
    error_code = f"SMTP_{code}"
    if 500 <= code < 600:
        return Misconfigured(error_code) if of_us else Refused(error_code)
    return TryLater(error_code)


def _mail(message: pb.Message, settings: EmailSettings) -> EmailMessage:
    """Raises UnknownText; ValueError for a recipient that no header may hold."""
    said = render_email(message)
    mail = EmailMessage()
    user, _, domain = settings.sender.rpartition("@")
    mail["From"] = Address(settings.sender_name, user, domain)
    recipient, _, at = message.recipient.rpartition("@")
    mail["To"] = Address("", recipient, at)
    mail["Subject"] = said.subject
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["Message-ID"] = f"<{message.message_id}@{domain}>"
    # RFC 3834: no holiday notices in answer.
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(said.text)
    mail.add_alternative(said.html, subtype="html")
    return mail


def _as_data(mail: EmailMessage, *, utf8: bool) -> bytes:
    """The mail as DATA has it: lines end with CRLF, those that begin with a dot with two."""
    content = mail.as_bytes(policy=SMTPUTF8 if utf8 else SMTP)
    lines = [b"." + line if line.startswith(b".") else line for line in content.split(b"\r\n")]
    return b"\r\n".join(lines).removesuffix(b"\r\n") + b"\r\n.\r\n"


def _tls(settings: EmailSettings) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=settings.ca_file)


def _cut(server: smtplib.SMTP) -> None:
    if server.sock:
        server.sock.shutdown(socket.SHUT_RDWR)
