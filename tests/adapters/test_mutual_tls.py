"""Mutual TLS with e-Boks by configuration, over real TLS connections."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.adapter import Done, Misconfigured, Refused, TryLater
from adapters.eboks import EBoksAdapter, EBoksSettings
from adapters.sandbox.control import running
from adapters.sandbox.eboks import make_app
from tests.adapters.authority import Authority
from tests.adapters.sandbox import NOBODY_LISTENS, WITHOUT_ACCOUNT, wish


class Demanding:
    """An e-Boks sandbox that takes only callers whom `authority` knows."""

    def __init__(self, url: str, folder: Path, authority: Authority) -> None:
        self.url = url
        self.folder = folder
        self.authority = authority

    def deliver(self, **settings: Path | None) -> Done | TryLater | Refused:
        """Ask it about somebody without an account, with these settings of mutual TLS."""
        return self.adapter(**{"authorities_file": self.authority.file, **settings}).deliver(
            wish(False, WITHOUT_ACCOUNT)
        )

    def adapter(self, **settings: Path | None) -> EBoksAdapter:
        return EBoksAdapter(
            EBoksSettings(
                url=self.url,
                token_file=self.folder / "data" / "token",
                deadline_seconds=30,
                authorities_file=settings.get("authorities_file"),
                client_certificate_file=settings.get("client_certificate_file"),
                client_key_file=settings.get("client_key_file"),
            )
        )


@pytest.fixture(scope="module", params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def eboks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demanding]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "authority")
    context = _context(authority, authority.issue("operator"), request.param)
    with running(make_app(folder / "data", NOBODY_LISTENS), ssl_context_factory=lambda *_: context) as url:
        yield Demanding(url, folder, authority)


def _context(authority: Authority, own: tuple[Path, Path], version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    # 1.2 refuses a client in the handshake, 1.3 after it.
    context.maximum_version = version
    context.load_cert_chain(*own)
    return context


@contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[str]:
    """A server that lets nobody in, and says why as TLS does."""

    def refuse() -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as secured:
            with pytest.raises(ssl.SSLError):
                secured.do_handshake()
            with socket.socket(fileno=secured.detach()) as plain:
                # Closed with a request unread, the connection would be reset and the alert lost.
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        # So that nobody waits for ever where nobody calls.
        listener.settimeout(30)
        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        yield "https://{}:{}".format(*listener.getsockname())
        thread.join()


def test_with_the_client_certificate_the_operator_is_reached(eboks: Demanding) -> None:
    certificate, key = eboks.authority.issue("register")
    assert eboks.deliver(client_certificate_file=certificate, client_key_file=key) == Done()


def test_without_a_client_certificate_the_operator_refuses(eboks: Demanding) -> None:
    outcome = eboks.deliver()
    assert isinstance(outcome, TryLater)
    # The sandbox's server closes the connection without the alert that says why.
    assert outcome.error_code in ("UNREACHABLE", "ANSWER_LOST")


def test_an_expired_or_a_strangers_certificate_is_refused(eboks: Demanding, tmp_path: Path) -> None:
    for certificate, key in (
        eboks.authority.issue("expired", valid=False),
        Authority(tmp_path, "stranger").issue("register"),
    ):
        outcome = eboks.deliver(client_certificate_file=certificate, client_key_file=key)
        assert isinstance(outcome, TryLater)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_operator_that_says_it_refuses_the_certificate_stops_the_adapter(
    version: ssl.TLSVersion, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "authority")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "token").write_text("token")
    with refusing(_context(authority, authority.issue("operator"), version)) as url:
        operator = Demanding(url, tmp_path, authority)
        certificate, key = authority.issue("expired", valid=False)
        assert operator.deliver(client_certificate_file=certificate, client_key_file=key) == Misconfigured(
            "CERTIFICATE_REFUSED"
        )


def test_an_operator_of_another_authority_hears_nothing(eboks: Demanding, tmp_path: Path) -> None:
    certificate, key = eboks.authority.issue("register")
    outcome = eboks.deliver(
        authorities_file=Authority(tmp_path, "stranger").file,
        client_certificate_file=certificate,
        client_key_file=key,
    )
    assert outcome == Misconfigured("CERTIFICATE_REFUSED")


def test_without_any_setting_an_operator_of_its_own_authority_is_not_trusted(eboks: Demanding) -> None:
    assert eboks.deliver(authorities_file=None) == Misconfigured("CERTIFICATE_REFUSED")


def test_a_certificate_without_its_key_is_no_setting(eboks: Demanding) -> None:
    certificate, key = eboks.authority.issue("register")
    for half in ({"client_certificate_file": certificate}, {"client_key_file": key}):
        with pytest.raises(ValidationError, match="belong together"):
            eboks.adapter(**half)


def test_a_key_that_is_not_the_certificates_is_refused_at_start_up(eboks: Demanding) -> None:
    certificate, _ = eboks.authority.issue("register")
    _, key = eboks.authority.issue("other")
    with pytest.raises(OSError, match="KEY_VALUES_MISMATCH"):
        eboks.adapter(client_certificate_file=certificate, client_key_file=key)
