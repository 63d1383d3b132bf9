"""The events that the checks push: ids, sequences and mailboxes that no run had before."""

import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from krr.v1 import mailbox_event_pb2 as pb

# Says whose mailbox it is: a run that was killed leaves some behind, and only these are removed.
ADDRESS_PREFIX = "krr-operator-check-"

CHOICE = pb.MailboxChoice()
REMOVAL = pb.MailboxRemoval()


class Events:
    """Makes events, each with an id and a sequence of its own.

    Sequences are microseconds since 1970, so that they lie above those of every earlier run as
    long as the clock of this machine is not set back; within the run each is higher than the last.
    """

    def __init__(self) -> None:
        self._run = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._sequence = 0
        self._contents: list[pb.MailboxContent] = []

    def sequence(self) -> int:
        """A sequence above all before it."""
        with self._lock:
            self._sequence = max(self._sequence + 1, time.time_ns() // 1000)
            return self._sequence

    def sequences(self, count: int) -> list[int]:
        """So many, rising."""
        return [self.sequence() for _ in range(count)]

    def content(self, *, certificate: bytes = b"") -> pb.MailboxContent:
        """A mailbox with an address that none had before."""
        with self._lock:
            number = len(self._contents) + 1
            content = pb.MailboxContent(
                address=f"{ADDRESS_PREFIX}{self._run}-{number}", certificate=certificate
            )
            self._contents.append(content)
            return content

    def called(self, content: pb.MailboxContent) -> str:
        """What a content is called where addresses may not be shown."""
        for number, each in enumerate(self._contents, start=1):
            if each.address == content.address:
                other = "" if each.certificate == content.certificate else " with another certificate"
                return f"mailbox {number}{other}"
        return "a mailbox that was not pushed"

    def new(self, identifier: str, *, sequence: int | None = None, **operation: Any) -> pb.MailboxEvent:
        """An event with a fresh id.

        sequence: the next one where None.
        operation: create=, create_and_choose=, choose=, update= or delete=, with its message; or
            none of them.
        """
        details = pb.EventDetails(sequence=self.sequence() if sequence is None else sequence)
        details.occurred_time.GetCurrentTime()
        return pb.MailboxEvent(
            event_id=str(uuid.uuid4()), identifier=identifier, details=details, **operation
        )


def with_id_of(first: pb.MailboxEvent, second: pb.MailboxEvent) -> pb.MailboxEvent:
    """The second event under the id of the first."""
    altered = pb.MailboxEvent()
    altered.CopyFrom(second)
    altered.event_id = first.event_id
    return altered


def personal_certificate() -> bytes:
    """An X.509 certificate in DER, of nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "synthetic person")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)
