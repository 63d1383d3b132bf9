"""What the tests of the store do again and again."""

import itertools
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from server.domain.caller import Caller, CallerKind
from server.domain.change import Change
from server.domain.contact import ContactKind
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.outcome import Done, Refused, Sent, TryLater, Unsure
from server.domain.person import Mailbox, Person
from server.store.deliveries import LeasedDelivery, finish_delivery, lease_deliveries
from server.store.message_outcomes import finish_message
from server.store.messages import (
    LeasedMessage,
    MessageRow,
    lease_messages,
    list_messages,
    retry_messages,
)
from server.store.store import Store
from server.store.transaction import Answer, Transaction, WriteRequest
from tests import people

Result = TypeVar("Result")

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLA, KARI = PersonIdentifier(people.OLA), PersonIdentifier(people.KARI)
DIGIPOST, EBOKS = OrganisationNumber(people.DIGIPOST), OrganisationNumber(people.EBOKS)
MOBILE = ContactKind.MOBILE
MAILBOXES = (
    Mailbox(operator=DIGIPOST, address=MailboxAddress("ola.nordmann#9YDT")),
    Mailbox(operator=EBOKS, address=MailboxAddress("ola-nordmann-eboks")),
)
ADMINISTRATOR = Caller(CallerKind.ADMINISTRATOR, "test")
A_DAY = timedelta(days=1)
A_MINUTE = timedelta(minutes=1)
AT_ONCE = timedelta()


def in_time() -> float:
    """A deadline that only a fault can miss."""
    return time.monotonic() + 10


def some_persons(count: int) -> list[PersonIdentifier]:
    """Different synthetic persons."""
    return list(map(PersonIdentifier, itertools.islice(people.synthetic_identifiers(), count)))


def request(body: bytes = b"body") -> WriteRequest:
    return WriteRequest(uuid.uuid4(), body)


def write(
    store: Store,
    identifier: PersonIdentifier,
    verb: Callable[[Person], Person],
    request: WriteRequest | None = None,
) -> Answer:
    """The citizen's write of one verb."""

    def do(transaction: Transaction) -> Answer:
        before = transaction.person(identifier)
        [number] = transaction.record([Change(before, verb(before))], NOW)
        return Answer("DONE", number)

    citizen = Caller(CallerKind.CITIZEN, identifier)
    if request is None:
        return store.write(citizen, do, deadline=in_time())
    return store.write(citizen, do, deadline=in_time(), request=request)


def register(store: Store, identifier: PersonIdentifier, mobile: str | None = "+4791234567") -> None:
    """Enter a person with a mailbox at each operator, neither chosen."""

    def verb(person: Person) -> Person:
        values = {ContactKind.EMAIL: "ola@example.com"} | ({MOBILE: mobile} if mobile else {})
        person = person.register(NOW, values, None)
        for mailbox in MAILBOXES:
            person = person.create_mailbox(mailbox)
        return person

    write(store, identifier, verb)


def choose(store: Store, identifier: PersonIdentifier, operator: OrganisationNumber) -> int:
    """Choose the mailbox; return the change number."""
    return write(store, identifier, lambda person: person.choose_mailbox(operator)).change_number


def person_of(store: Store, identifier: PersonIdentifier) -> Person:
    return store.read(lambda reader: reader.persons([identifier]), deadline=in_time())[identifier]


def lease(
    store: Store,
    adapter: str,
    *,
    limit: int = 100,
    duration: timedelta = A_MINUTE,
    wait_for_new_operator: timedelta = A_DAY,
) -> list[LeasedDelivery]:
    return store.write(
        Caller(CallerKind.ADAPTER, adapter),
        lambda transaction: lease_deliveries(
            transaction,
            adapter,
            limit=limit,
            duration=duration,
            wait_for_new_operator=wait_for_new_operator,
        ),
        deadline=in_time(),
    )


def finish(store: Store, adapter: str, leased: LeasedDelivery, outcome: Done | TryLater | Refused) -> None:
    store.write(
        Caller(CallerKind.ADAPTER, adapter),
        lambda transaction: finish_delivery(
            transaction, adapter, leased.id, leased.lease_token, outcome, NOW
        ),
        deadline=in_time(),
    )


def lease_sms(store: Store, *, limit: int = 100, duration: timedelta = A_MINUTE) -> list[LeasedMessage]:
    return lease_messages_of(store, "SMS", limit=limit, duration=duration)


def lease_messages_of(
    store: Store, channel: str, *, limit: int = 100, duration: timedelta = A_MINUTE
) -> list[LeasedMessage]:
    return store.write(
        Caller(CallerKind.ADAPTER, "sms"),
        lambda transaction: lease_messages(
            transaction, channel, limit=limit, duration=duration, quiet=False, most_in_a_day=1000
        ),
        deadline=in_time(),
    )


def finish_sms(store: Store, leased: LeasedMessage, outcome: Sent | TryLater | Unsure | Refused) -> None:
    store.write(
        Caller(CallerKind.ADAPTER, "sms"),
        lambda transaction: finish_message(transaction, "SMS", leased.id, leased.lease_token, outcome),
        deadline=in_time(),
    )


def messages(store: Store) -> list[MessageRow]:
    """All messages, the newest first."""
    return store.read(
        lambda reader: list_messages(reader, state="", change_number=0, before=1_000_000, limit=1000),
        deadline=in_time(),
    )


def message_states(store: Store) -> list[tuple[str, str | None]]:
    """State and reason of each message, the newest first."""
    return [(row.state, row.reason_code) for row in messages(store)]


def retry_sms(store: Store, *ids: uuid.UUID) -> int:
    return store.write(
        ADMINISTRATOR, lambda transaction: retry_messages(transaction, ids), deadline=in_time()
    )


def refusal_of(do: Callable[[], object]) -> Reason | None:
    """Why it is refused; None where it is done."""
    try:
        do()
    except Refusal as refusal:
        return refusal.reason
    return None


def together(*work: Callable[[], Result]) -> list[Result]:
    """Run them in threads that start at the same moment; their results in order."""
    start = threading.Barrier(len(work))

    def run(do: Callable[[], Result]) -> Result:
        start.wait(timeout=10)
        return do()

    with ThreadPoolExecutor(len(work)) as threads:
        return list(threads.map(run, work))
