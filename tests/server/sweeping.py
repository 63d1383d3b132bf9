"""Sweeps as the staff begins them and adapters serve them."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.duration_pb2 import Duration
from krr.v1 import citizen_service_pb2, person_pb2, sweep_pb2
from krr.v1 import delivery_service_pb2 as pb

from tests.conftest import Register
from tests.people import EBOKS, OLA, request_id
from tests.people import synthetic_identifiers as people
from tests.server.test_administration import finish, lease
from tests.server.test_look_up import FRESH, MAILBOX, contact, load

MINUTE = Duration(seconds=60)
# As at Digipost, which tells of the choice only.
ON, OFF = pb.AccountRead(receives_public_mail=True), pb.AccountRead(receives_public_mail=False)
NO_ACCOUNT = pb.AccountRead(receives_public_mail=False, account_exists=False)
ADDRESS = "ola.nordmann#9YDT"


def account(receives: bool, address: str = ADDRESS, certificate: bytes = b"") -> pb.AccountRead:
    """As at e-Boks, which tells everything."""
    return pb.AccountRead(
        receives_public_mail=receives, account_exists=True, mailbox_address=address, certificate=certificate
    )


def start(register: Register, adapter: str = "digipost", **fields: Any) -> int:
    request = sweep_pb2.StartSweepRequest(request_id=request_id(), adapter=adapter, **fields)
    return register.as_administrator().StartSweep(request).sweep_id


def sweep(register: Register, sweep_id: int) -> sweep_pb2.Sweep:
    return register.as_administrator().GetSweep(sweep_pb2.GetSweepRequest(sweep_id=sweep_id)).sweep


def state(register: Register, sweep_id: int) -> str:
    return sweep_pb2.SweepState.Name(sweep(register, sweep_id).state).removeprefix("SWEEP_STATE_")


def found(register: Register, sweep_id: int) -> list[sweep_pb2.Difference]:
    request = sweep_pb2.ListDifferencesRequest(sweep_id=sweep_id)
    return list(register.as_administrator().ListDifferences(request).differences)


def kinds(register: Register, sweep_id: int) -> list[str]:
    names = map(sweep_pb2.DifferenceKind.Name, (each.kind for each in found(register, sweep_id)))
    return [name.removeprefix("DIFFERENCE_KIND_") for name in names]


def reasons(register: Register, sweep_id: int) -> list[str]:
    names = (sweep_pb2.NotRepairedReason.Name(each.not_repaired_reason) for each in found(register, sweep_id))
    return [name.removeprefix("NOT_REPAIRED_REASON_") for name in names]


def lease_comparisons(
    register: Register, adapter: str = "digipost", count: int = 100, seconds: int = 60, **fields: Any
) -> list[pb.Comparison]:
    request = pb.LeaseComparisonsRequest(
        max_comparisons=count, lease_duration=Duration(seconds=seconds), **fields
    )
    return list(register.as_adapter(adapter).LeaseComparisons(request).comparisons)


def report(register: Register, comparison: pb.Comparison, adapter: str = "digipost", **outcome: Any) -> None:
    register.as_adapter(adapter).FinishComparison(
        pb.FinishComparisonRequest(
            comparison_id=comparison.comparison_id, lease_token=comparison.lease_token, **outcome
        )
    )


def compare(
    register: Register, at_operator: Mapping[str, pb.AccountRead], adapter: str = "digipost", **fields: Any
) -> int:
    """A whole sweep; who is not named has no account. Its id."""
    sweep_id = start(register, adapter, **fields)
    while leased := lease_comparisons(register, adapter):
        for each in leased:
            report(register, each, adapter, account=at_operator.get(each.identifier, NO_ACCOUNT))
    return sweep_id


def settle(register: Register, *adapters: str) -> None:
    """Bring the operators up to date."""
    for adapter in adapters:
        finish(register, adapter, *lease(register, adapter))


def person(register: Register, identifier: str = OLA) -> citizen_service_pb2.GetPersonResponse:
    request = citizen_service_pb2.GetPersonRequest(identifier=identifier)
    return register.as_citizen(identifier).GetPerson(request)


def chosen(register: Register) -> str:
    """Whose mailbox Ola chose."""
    return "".join(
        box.mailbox.operator_organisation_number for box in person(register).mailboxes if box.chosen
    )


def at_eboks(address: str = ADDRESS) -> dict[str, Any]:
    box = person_pb2.Mailbox(operator_organisation_number=EBOKS, address=address)
    return {"mailboxes": [box], "chosen_operator_organisation_number": EBOKS}


def load_many(register: Register, count: int) -> None:
    """Persons who chose Digipost; nobody shares contact info, which the register would note by itself."""
    for number, identifier in zip(range(count), people(), strict=False):
        load(register, identifier, email=email_of_its_own(number), **MAILBOX)


def email_of_its_own(number: int) -> person_pb2.ContactPoint:
    return contact(f"person{number}@example.com", FRESH)


def reserve(register: Register) -> None:
    request = citizen_service_pb2.ReserveRequest(request_id=request_id(), identifier=OLA)
    register.as_citizen(OLA).Reserve(request)
