"""What the tests of all suppliers share: a sandbox from outside, and a server that trickles."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import httpx
from krr.v1 import delivery_service_pb2 as pb

# One for all: each new client reads the list of authorities anew.
http = httpx.Client(trust_env=False, timeout=15, limits=httpx.Limits(max_keepalive_connections=0))

PERSON = "11887197158"  # synthetic, like all here: month + 80
WITHOUT_ACCOUNT = "30850649509"
NOBODY_LISTENS = "127.0.0.1:1"


def wish(on: bool, identifier: str = PERSON) -> pb.Delivery:
    return pb.Delivery(delivery_id=7, identifier=identifier, receives_public_mail=on, change_number=1001)


def wish_for_account(identifier: str = WITHOUT_ACCOUNT) -> pb.Delivery:
    return pb.Delivery(
        delivery_id=8,
        identifier=identifier,
        change_number=1001,
        open_account=pb.AccountToOpen(email="ola@example.com", mobile="+4791234567"),
    )


class Sandbox:
    """A running sandbox as tests and operators steer it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def begin_anew(self) -> None:
        """Well-behaved, and PERSON has an account without public mail."""
        self.behave("normal")
        self.seed(receives=False)

    def behave(self, behaviour: str, slow_seconds: float = 30.0) -> None:
        order = {"behaviour": behaviour, "slow_seconds": slow_seconds}
        http.put(f"{self.url}/sandbox/behaviour", json=order).raise_for_status()

    def seed(self, *, receives: bool) -> None:
        account = {"identifier": PERSON, "address": "kari.nordmann#9YDT", "receives_public_mail": receives}
        http.put(f"{self.url}/sandbox/accounts", json=[account]).raise_for_status()

    def receives_public_mail(self) -> bool:
        accounts = http.get(f"{self.url}/sandbox/accounts").json()
        return any(a["identifier"] == PERSON and a["receives_public_mail"] for a in accounts)


class Trickle:
    """A server whose answers never end: headers come byte by byte, each well within a timeout.

    sound: how requests to a path are answered all the same, whole.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.url = "http://{}:{}".format(*listener.getsockname())
        self.sound: dict[str, bytes] = {}
        self._listener = listener

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            path = connection.recv(65536).split(b" ")[1].decode()
            if path in self.sound:
                body = self.sound[path]
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                connection.sendall(b"x")
                time.sleep(0.02)


@contextlib.contextmanager
def trickling() -> Iterator[Trickle]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        trickle = Trickle(listener)
        thread = threading.Thread(target=trickle.run)
        thread.start()
        try:
            yield trickle
        finally:
            # Closing would leave the thread in accept.
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
