"""E-mail through a mail server that nobody here wrote (aiosmtpd), over real sockets, and its bounces."""

import smtplib
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2
from krr_client import connect
from pydantic import ValidationError

from adapters.adapter import Misconfigured, Refused, Sent, TryLater, Unsure
from adapters.email import EmailSettings, SmtpGateway, bounces_listener
from tests.adapters.authority import Authority
from tests.adapters.fake_register import FakeRegister, serving
from tests.adapters.sandbox import NOBODY_LISTENS
from tests.e2e.parts import free_port

TOKEN = "9b2f6c1e-0a53-4d0c-9c55-3f1f0f6c2f11"
RECIPIENT = "ola.nordmann@example.com"
BOUNCE_DOMAIN = "bounce.example.no"

Do = Callable[[SMTP], str]


class MailServer:
    """What the server answers, and what it took."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[str], EmailMessage]] = []
        self.on_mail: Do = lambda _: "250 ok"
        self.on_recipient: Do = lambda _: "250 ok"
        self.on_data: Do = lambda _: "250 taken"
        self.keeps_data = True

    async def handle_MAIL(
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.on_mail(server)

    async def handle_RCPT(
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.on_recipient(server)

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        if self.keeps_data:
            mail = message_from_bytes(envelope.content, policy=default)
            self.taken.append((envelope.mail_from or "", envelope.rcpt_tos, mail))
        return self.on_data(server)


def answer(text: str) -> Do:
    return lambda _: text


def cut(server: SMTP) -> str:
    transport: Any = server.transport
    transport.abort()
    return "250 lost"


@contextmanager
def listening(handler: MailServer, **options: Any) -> Iterator[int]:
    port = free_port()
    controller = Controller(
        handler, hostname="127.0.0.1", port=port, decode_data=False, ready_timeout=30, **options
    )
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture
def mail_server() -> MailServer:
    return MailServer()


@pytest.fixture
def gateway(mail_server: MailServer) -> Iterator[SmtpGateway]:
    with listening(mail_server, enable_SMTPUTF8=True) as port:
        yield SmtpGateway(settings(port))


def settings(port: int, **other: Any) -> EmailSettings:
    given = {"host": "127.0.0.1", "port": port, "tls": "none", "deadline_seconds": 5.0}
    return EmailSettings(**{**given, "bounce_domain": BOUNCE_DOMAIN, **other})


def message(**other: Any) -> pb.Message:
    return pb.Message(
        **{
            "message_id": str(uuid.uuid4()),
            "kind": pb.MESSAGE_KIND_MAILBOX_CHOSEN,
            "language": person_pb2.LANGUAGE_NN,
            "recipient": RECIPIENT,
            "operator_name": "Digipost",
            "receipt_token": TOKEN,
            **other,
        }
    )


def test_a_mail_arrives_with_both_parts_under_its_reference(
    gateway: SmtpGateway, mail_server: MailServer
) -> None:
    sent = message()

    outcome = gateway.send(sent)

    assert outcome == Sent("SMTP", f"{sent.message_id}@norge.no", 1, pb.COST_CLASS_EMAIL)
    [(return_address, recipients, mail)] = mail_server.taken
    assert (return_address, recipients) == (f"bounce+{TOKEN}@{BOUNCE_DOMAIN}", [RECIPIENT])
    assert (mail["To"], mail["Auto-Submitted"]) == (RECIPIENT, "auto-generated")
    assert mail["Message-ID"] == f"<{sent.message_id}@norge.no>"
    assert mail["Subject"] == "Du har valt digital postkasse"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "Digipost" in text and "Digipost" in html
    assert "frå det offentlege" in text and "frå det offentlege" in html


def test_an_address_with_other_letters_arrives(gateway: SmtpGateway, mail_server: MailServer) -> None:
    assert isinstance(gateway.send(message(recipient="pål@blåbær.no")), Sent)
    [(_, recipients, mail)] = mail_server.taken
    assert (recipients, mail["To"]) == (["pål@blåbær.no"], "pål@blåbær.no")


def test_an_address_with_other_letters_is_refused_where_the_server_takes_none(
    mail_server: MailServer,
) -> None:
    with listening(mail_server, enable_SMTPUTF8=False) as port:
        assert SmtpGateway(settings(port)).send(message(recipient="pål@example.no")) == Refused("NO_SMTPUTF8")
    assert mail_server.taken == []


def test_lines_that_begin_with_dots_arrive_as_they_are(gateway: SmtpGateway, mail_server: MailServer) -> None:
    assert isinstance(gateway.send(message(operator_name=".\n.x")), Sent)
    [(_, _, mail)] = mail_server.taken
    body = mail.get_body(["plain"])
    assert body and ". .x som digital postkasse" in body.get_content()


@pytest.mark.parametrize(
    ("step", "text", "outcome"),
    [
        ("on_recipient", "550 5.1.1 unknown", Refused("SMTP_550")),
        ("on_recipient", "450 4.2.0 greylisted", TryLater("SMTP_450")),
        ("on_recipient", "452 4.2.2 full", TryLater("SMTP_452")),
        ("on_data", "554 5.7.1 no", Refused("SMTP_554")),
        ("on_data", "451 4.3.0 later", TryLater("SMTP_451")),
        ("on_mail", "550 5.7.1 not you", Misconfigured("SMTP_550")),
        ("on_mail", "421 4.3.2 closing", TryLater("SMTP_421")),
    ],
)
def test_deferred_is_tried_again_and_refused_is_final(
    gateway: SmtpGateway, mail_server: MailServer, step: str, text: str, outcome: TryLater | Refused
) -> None:
    setattr(mail_server, step, answer(text))
    assert gateway.send(message()) == outcome


@pytest.mark.parametrize("step", ["on_mail", "on_recipient"])
def test_a_cut_before_the_text_was_handed_over_is_tried_again(
    gateway: SmtpGateway, mail_server: MailServer, step: str
) -> None:
    setattr(mail_server, step, cut)
    assert gateway.send(message()) == TryLater("UNREACHABLE")
    assert mail_server.taken == []


@pytest.mark.parametrize("keeps_data", [False, True])
def test_a_cut_after_the_text_was_handed_over_is_unsure(
    gateway: SmtpGateway, mail_server: MailServer, keeps_data: bool
) -> None:
    mail_server.on_data, mail_server.keeps_data = cut, keeps_data
    assert gateway.send(message()) == Unsure("ANSWER_LOST")


def test_nobody_there_is_tried_again() -> None:
    port = int(NOBODY_LISTENS.rpartition(":")[2])
    assert SmtpGateway(settings(port)).send(message()) == TryLater("UNREACHABLE")


def test_a_server_that_trickles_is_left_at_the_deadline() -> None:
    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            for _ in range(100):
                try:
                    connection.sendall(b"220-wait\r\n")
                except OSError:
                    return
                if ended.wait(0.05):
                    return

    ended = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=trickle, args=[listener])
        thread.start()
        gateway = SmtpGateway(settings(listener.getsockname()[1], deadline_seconds=0.5))
        assert gateway.send(message()) == TryLater("UNREACHABLE")
        still_trickling = thread.is_alive()
        ended.set()
        thread.join()
    assert still_trickling


def test_a_message_that_cannot_be_written_is_refused(gateway: SmtpGateway) -> None:
    assert gateway.send(message(kind=pb.MESSAGE_KIND_SHARED_CONTACT_LETTER)) == TryLater("UNKNOWN_TEXT")
    assert gateway.send(message(recipient="ola\r\nBcc: kari@example.com")) == Refused("INVALID_ADDRESS")


class TestStartTls:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path, "authority")

    @pytest.fixture
    def ca_file(self, authority: Authority) -> Path:
        return authority.file

    @pytest.fixture
    def context(self, authority: Authority) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*authority.issue("server"))
        return context

    def test_mail_goes_by_tls(self, mail_server: MailServer, ca_file: Path, context: ssl.SSLContext) -> None:
        with listening(mail_server, tls_context=context, require_starttls=True) as port:
            assert isinstance(
                SmtpGateway(settings(port, tls="starttls", ca_file=ca_file)).send(message()), Sent
            )

    def test_a_server_without_tls_gets_no_mail(self, mail_server: MailServer) -> None:
        with listening(mail_server) as port:
            outcome = SmtpGateway(settings(port, tls="starttls")).send(message())
        assert outcome == Misconfigured("NOT_SUPPORTED")
        assert mail_server.taken == []

    def test_a_server_with_another_certificate_gets_no_mail(
        self, mail_server: MailServer, context: ssl.SSLContext
    ) -> None:
        with listening(mail_server, tls_context=context) as port:
            outcome = SmtpGateway(settings(port, tls="starttls")).send(message())
        assert outcome == Misconfigured("CERTIFICATE_REFUSED")
        assert mail_server.taken == []

    @pytest.mark.parametrize(("password", "works"), [("right", True), ("wrong", False)])
    def test_who_we_are_is_checked(
        self,
        mail_server: MailServer,
        ca_file: Path,
        context: ssl.SSLContext,
        tmp_path: Path,
        password: str,
        works: bool,
    ) -> None:
        def authenticate(
            _server: SMTP, _s: Session, _e: Envelope, _method: str, data: LoginPassword
        ) -> AuthResult:
            return AuthResult(success=(data.login, data.password) == (b"krr", b"right"), handled=False)

        file = tmp_path / "password"
        file.write_text(f"{password}\n")
        options: dict[str, Any] = {"authenticator": authenticate, "auth_required": True}
        with listening(mail_server, tls_context=context, require_starttls=True, **options) as port:
            given = settings(port, tls="starttls", ca_file=ca_file, user="krr", password_file=file)
            outcome = SmtpGateway(given).send(message())
        assert isinstance(outcome, Sent) if works else outcome == Misconfigured("SMTP_535")


def test_mail_goes_unprotected_to_this_machine_only() -> None:
    with pytest.raises(ValidationError, match="on this machine only"):
        EmailSettings(host="mail.example.no", tls="none")


class TestBounces:
    @pytest.fixture
    def register(self) -> Iterator[FakeRegister]:
        register = FakeRegister()
        register.receipt_tokens = {TOKEN}
        with (
            serving(register) as register.port,
            connect(f"127.0.0.1:{register.port}", "Development adapter/email") as register.channel,
        ):
            yield register

    @pytest.fixture
    def bring(self, register: FakeRegister) -> Iterator[Callable[..., Any]]:
        port = free_port()

        def deliver(mail: EmailMessage, to: str = f"bounce+{TOKEN}@{BOUNCE_DOMAIN}") -> Any:
            with smtplib.SMTP("127.0.0.1", port) as server:
                return server.send_message(mail, "", [to])

        with bounces_listener(f"127.0.0.1:{port}", BOUNCE_DOMAIN, register.channel):
            yield deliver

    def test_a_failure_is_recorded_with_its_status(self, register: FakeRegister, bring: Any) -> None:
        bring(report("failed", "5.1.1"))
        [receipt] = register.receipts
        assert (receipt.receipt_token, receipt.failed.error_code) == (TOKEN, "DSN_5_1_1")

    def test_a_delay_is_told_apart_from_a_failure(self, register: FakeRegister, bring: Any) -> None:
        bring(report("delayed", "4.4.1"))
        assert register.receipts == []

    def test_a_delivery_that_is_reported_is_recorded(self, register: FakeRegister, bring: Any) -> None:
        bring(report("delivered", "2.0.0"))
        assert [receipt.WhichOneof("outcome") for receipt in register.receipts] == ["delivered"]

    def test_a_holiday_notice_is_dropped(self, register: FakeRegister, bring: Any) -> None:
        mail = EmailMessage()
        mail.set_content("Eg er på ferie. Action: failed")
        bring(mail)
        assert register.receipts == []

    def test_the_same_bounce_again_is_recorded_again_and_harms_nobody(
        self, register: FakeRegister, bring: Any
    ) -> None:
        for _ in range(2):
            bring(report("failed", "5.2.2"))
        assert len(register.receipts) == 2

    @pytest.mark.parametrize(
        "to",
        [
            f"bounce+1d7d3f0a-55c4-4f27-8a34-6f0d7f3b9a02@{BOUNCE_DOMAIN}",
            f"bounce+not-a-token@{BOUNCE_DOMAIN}",
            f"postmaster@{BOUNCE_DOMAIN}",
            f"bounce+{TOKEN}@another.example.no",
        ],
    )
    def test_an_address_that_was_never_given_out_is_refused(
        self, register: FakeRegister, bring: Any, to: str
    ) -> None:
        with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)) as refused:
            bring(report("failed", "5.1.1"), to)
        assert "550" in str(refused.value)

    def test_a_register_that_is_away_has_the_bounce_brought_again(
        self, register: FakeRegister, bring: Any
    ) -> None:
        register.receipt_refusal = (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
        with pytest.raises(smtplib.SMTPDataError) as refused:
            bring(report("failed", "5.1.1"))
        assert refused.value.smtp_code == 451
        register.receipt_refusal = None
        bring(report("failed", "5.1.1"))
        assert len(register.receipts) == 1


def report(action: str, status: str) -> EmailMessage:
    """A delivery status notification as RFC 3464 has it."""
    text = (
        "From: MAILER-DAEMON@mx.example.com\r\nSubject: Delivery status\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nIt could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example.com\r\n\r\n"
        f"Final-Recipient: rfc822; {RECIPIENT}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n"
    )
    mail = message_from_bytes(text.encode(), policy=default)
    assert isinstance(mail, EmailMessage)
    return mail
