"""ReplaceIdentifier against everything else at once: one after the other, whoever comes first."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from krr.v1 import admin_service_pb2, delivery_service_pb2, mailbox_operator_service_pb2, person_pb2
from krr.v1 import citizen_service_pb2 as pb
from psycopg import Connection

from tests.people import DIGIPOST, EBOKS, request_id, synthetic_identifiers
from tests.server.rpcs import Outcome, Rpcs

ROUNDS = 8


@dataclass
class Adapters:
    """Both operators' adapters and that of SMS, at work until nothing is left after finish().

    on: what each operator's side is, by adapter and person.
    """

    rpcs: Rpcs
    on: dict[tuple[str, str], bool] = field(default_factory=dict)
    _ending: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor = field(default_factory=ThreadPoolExecutor)
    _loops: list["Future[None]"] = field(default_factory=list)

    def start(self) -> None:
        self._loops += [self._threads.submit(self._work, adapter) for adapter in ("digipost", "eboks")]

    def finish(self) -> None:
        self._ending.set()
        for loop in self._loops:
            loop.result(timeout=20)
        self._threads.shutdown()

    def _work(self, adapter: str) -> None:
        while True:
            last = self._ending.is_set()
            if self._deliver(adapter) + self._send() == 0 and last:
                return

    def _deliver(self, adapter: str) -> int:
        lease = delivery_service_pb2.LeaseDeliveriesRequest(
            max_deliveries=10, lease_duration=Duration(seconds=60)
        )
        leased = self._call("LeaseDeliveries", lease, adapter).deliveries
        for each in leased:
            self.on[adapter, each.identifier] = each.receives_public_mail
            done = delivery_service_pb2.FinishDeliveryRequest(
                delivery_id=each.delivery_id,
                lease_token=each.lease_token,
                done=delivery_service_pb2.DeliveryDone(),
            )
            self._call("FinishDelivery", done, adapter)
        return len(leased)

    def _send(self) -> int:
        lease = delivery_service_pb2.LeaseMessagesRequest(
            channel=delivery_service_pb2.CHANNEL_SMS, max_messages=10, lease_duration=Duration(seconds=60)
        )
        leased = self._call("LeaseMessages", lease, "sms").messages
        for each in leased:
            sent = delivery_service_pb2.FinishMessageRequest(
                message_id=each.message_id,
                lease_token=each.lease_token,
                sent=delivery_service_pb2.MessageSent(gateway="LINK_MYLINK", gateway_message_id="4711"),
            )
            self._call("FinishMessage", sent, "sms")
        return len(leased)

    def _call(self, name: str, request: Any, adapter: str) -> Any:
        outcome = self.rpcs.call(f"DeliveryService/{name}", request, f"adapter/{adapter}")
        assert outcome.response is not None, f"{name}: {outcome.reason}"
        return outcome.response


@pytest.fixture
def adapters(rpcs: Rpcs) -> Iterator[Adapters]:
    at_work = Adapters(rpcs)
    at_work.start()
    yield at_work
    at_work.finish()


def enter(rpcs: Rpcs, identifier: str) -> None:
    """A person with a mailbox at each operator, who chose Digipost."""
    register = pb.RegisterPersonRequest(
        request_id=request_id(), identifier=identifier, email="first@example.com", mobile="+4791234567"
    )
    assert citizen(rpcs, register).response is not None
    for operator in (DIGIPOST, EBOKS):
        box = mailbox_operator_service_pb2.CreateMailboxRequest(
            event_id=request_id(), identifier=identifier, address="ola.nordmann#9YDT"
        )
        rpcs.call("MailboxOperatorService/CreateMailbox", box, f"operator/{operator}")
    assert citizen(rpcs, choice(identifier, DIGIPOST)).response is not None


def citizen(rpcs: Rpcs, request: Any) -> Outcome:
    name = request.DESCRIPTOR.name.removesuffix("Request")
    return rpcs.call(f"CitizenService/{name}", request, f"citizen/{request.identifier}")


def choice(identifier: str, operator: str) -> pb.ChooseMailboxRequest:
    return pb.ChooseMailboxRequest(
        request_id=request_id(), identifier=identifier, operator_organisation_number=operator
    )


def update(identifier: str, email: str) -> pb.UpdateContactRequest:
    return pb.UpdateContactRequest(
        request_id=request_id(),
        identifier=identifier,
        update_mask=FieldMask(paths=["email"]),
        email=email,
    )


def person(rpcs: Rpcs, identifier: str) -> person_pb2.Person:
    found: person_pb2.Person = citizen(rpcs, pb.GetPersonRequest(identifier=identifier)).response.person
    return found


def at_once(*calls: Callable[[], Outcome]) -> list[Outcome]:
    """Make the calls at the same moment; how they ended, in order."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], Outcome]) -> Outcome:
        start.wait(timeout=10)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def replace(rpcs: Rpcs, old: str, new: str) -> Outcome:
    request = admin_service_pb2.ReplaceIdentifierRequest(
        request_id=request_id(), old_identifier=old, new_identifier=new
    )
    return rpcs.call("AdminService/ReplaceIdentifier", request, "administrator/test")


def number_of(outcome: Outcome) -> int | None:
    """The change number answered; None where there was no such person at the moment."""
    if outcome.response is None:
        assert outcome.reason == "PERSON_NOT_FOUND"
        return None
    return int(outcome.response.answer.change_number)


def test_what_is_done_to_both_identifiers_meanwhile_comes_before_or_after_a_replacement(
    rpcs: Rpcs, adapters: Adapters, database: "Connection[Any]"
) -> None:
    people, chosen = synthetic_identifiers(), {}
    for turn, one, other in zip(range(ROUNDS), people, people, strict=False):
        # Each is the lower one in turn: locks are taken in the order of identifiers.
        old, new = (one, other) if turn % 2 else (other, one)
        enter(rpcs, old)

        replaced, *others = at_once(
            partial(replace, rpcs, old, new),
            partial(citizen, rpcs, update(old, "old@example.com")),
            partial(citizen, rpcs, choice(old, EBOKS)),
            partial(citizen, rpcs, update(new, "new@example.com")),
            partial(citizen, rpcs, choice(new, EBOKS)),
        )

        moved = number_of(replaced)
        assert moved is not None
        old_updated, old_chose, new_updated, new_chose = map(number_of, others)
        assert all(number < moved for number in (old_updated, old_chose) if number)
        assert all(number >= moved for number in (new_updated, new_chose) if number)
        assert person(rpcs, old).deletion_reason == person_pb2.DELETION_REASON_NEW_IDENTITY
        after = person(rpcs, new)
        assert after.email.value.partition("@")[0] == (
            "new" if new_updated else "old" if old_updated else "first"
        )
        chosen[new] = EBOKS if old_chose or new_chose else DIGIPOST
        assert after.mailbox.operator_organisation_number == chosen[new]

    adapters.finish()
    assert {key for key, on in adapters.on.items() if on} == {
        ({DIGIPOST: "digipost", EBOKS: "eboks"}[operator], identifier)
        for identifier, operator in chosen.items()
    }
    messages = database.execute(
        "SELECT DISTINCT identifier, state FROM message JOIN person ON person.id = person_id"
        " WHERE kind = 'MAILBOX_CHOSEN'"
    ).fetchall()
    assert {identifier for identifier, _ in messages} == set(chosen)
    assert {state for _, state in messages} <= {"SENT", "SUPERSEDED"}


def test_two_replacements_that_cross_leave_one_identifier_with_everything(rpcs: Rpcs) -> None:
    people = synthetic_identifiers()
    for _, one, other in zip(range(ROUNDS), people, people, strict=False):
        enter(rpcs, one)

        there, back = map(
            number_of, at_once(partial(replace, rpcs, one, other), partial(replace, rpcs, other, one))
        )

        assert there is not None
        assert back is None or back > there
        left, kept = (one, other) if back is None else (other, one)
        assert person(rpcs, left).deletion_reason == person_pb2.DELETION_REASON_NEW_IDENTITY
        assert person(rpcs, kept).mailbox.operator_organisation_number == DIGIPOST


def test_whoever_registers_the_new_identifier_meanwhile_comes_before_or_after_as_well(rpcs: Rpcs) -> None:
    people = synthetic_identifiers()
    for _, old, new in zip(range(ROUNDS), people, people, strict=False):
        enter(rpcs, old)
        newcomer = pb.RegisterPersonRequest(request_id=request_id(), identifier=new, email="new@example.com")

        replaced, registered = at_once(partial(replace, rpcs, old, new), partial(citizen, rpcs, newcomer))

        assert sorted([replaced.reason, registered.reason]) == ["", "ALREADY_REGISTERED"]
        moved = registered.response is None
        assert (person(rpcs, old).status == person_pb2.PERSON_STATUS_DELETED) is moved
        assert person(rpcs, new).email.value == ("first@example.com" if moved else "new@example.com")
