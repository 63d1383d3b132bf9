"""Sweeps: who is read, what is made of it, and where they stop."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from krr.v1 import citizen_service_pb2, person_pb2, sweep_pb2
from krr.v1 import delivery_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, request_id
from tests.server.database import contents
from tests.server.sweeping import (
    ADDRESS,
    MINUTE,
    NO_ACCOUNT,
    OFF,
    ON,
    account,
    at_eboks,
    chosen,
    compare,
    email_of_its_own,
    found,
    kinds,
    lease_comparisons,
    load_many,
    person,
    reasons,
    report,
    reserve,
    settle,
    start,
    state,
    sweep,
)
from tests.server.test_administration import lease
from tests.server.test_look_up import EMAIL, MAILBOX, MOBILE, RESERVED, load


@pytest.fixture
def ola(register: Register) -> str:
    """Chose Digipost."""
    load(register, OLA, email=EMAIL, mobile=MOBILE, **MAILBOX)
    return OLA


def test_two_sides_that_agree_are_left_alone(
    register: Register, ola: str, database: "Connection[Any]"
) -> None:
    before = contents(database)

    sweep_id = compare(register, {ola: ON})

    assert (state(register, sweep_id), kinds(register, sweep_id)) == ("FINISHED", [])
    assert sweep(register, sweep_id).compared_count == sweep(register, sweep_id).person_count == 1
    assert contents(database) == before


def test_recently_changed_persons_are_read_first_and_deleted_ones_too(register: Register, ola: str) -> None:
    load(register, KARI)
    load(register, NIELS, status=person_pb2.PERSON_STATUS_DELETED, reservation=0)
    start(register)

    assert [each.identifier for each in lease_comparisons(register, count=2)] == [NIELS, KARI]
    assert [each.identifier for each in lease_comparisons(register, count=2)] == [ola]
    assert lease_comparisons(register) == []


@pytest.mark.parametrize(
    ("loaded", "read", "kind", "wish"),
    [
        (MAILBOX, OFF, "DOES_NOT_RECEIVE", True),
        (MAILBOX | RESERVED, ON, "RECEIVES_WRONGLY", False),
        ({}, ON, "RECEIVES_WRONGLY", False),
    ],
)
def test_an_operator_that_has_not_followed_the_choice_is_told_again(
    register: Register, loaded: dict[str, Any], read: pb.AccountRead, kind: str, wish: bool
) -> None:
    load(register, OLA, email=EMAIL, mobile=MOBILE, **loaded)
    number = person(register).person.change_number

    sweep_id = compare(register, {OLA: read})

    [told] = lease(register, "digipost")
    [difference] = found(register, sweep_id)
    assert kinds(register, sweep_id) == [kind]
    assert (told.receives_public_mail, told.change_number) == (wish, number + 1)
    assert (difference.repaired, difference.change_number) == (True, number + 1)


def test_a_repair_stands_in_the_citizens_history_with_its_cause(register: Register, ola: str) -> None:
    compare(register, {ola: OFF})

    request = citizen_service_pb2.ListHistoryRequest(identifier=ola)
    latest = register.as_citizen(ola).ListHistory(request).entries[0]

    assert list(latest.fields) == ["operator_side"]
    assert latest.changed_by == citizen_service_pb2.CHANGED_BY_RECONCILIATION
    assert latest.change_number == person(register).person.change_number


def test_the_citizen_sees_that_the_operator_is_being_told_again(register: Register, ola: str) -> None:
    compare(register, {ola: OFF})

    states = [box.operator_state for box in person(register).mailboxes]
    assert states == [citizen_service_pb2.OPERATOR_STATE_PENDING]


@pytest.mark.parametrize(
    ("read", "kind", "address", "choice"),
    [
        (account(True, "new-address"), "ADDRESS", "new-address", EBOKS),
        (NO_ACCOUNT, "MAILBOX_GONE", "", ""),
    ],
)
def test_an_operator_is_believed_about_its_own_mailbox(
    register: Register, read: pb.AccountRead, kind: str, address: str, choice: str
) -> None:
    load(register, OLA, email=EMAIL, **at_eboks())

    sweep_id = compare(register, {OLA: read}, "eboks")

    now = person(register)
    assert kinds(register, sweep_id) == [kind]
    assert "".join(box.mailbox.address for box in now.mailboxes) == address
    assert chosen(register) == choice


def test_a_mailbox_that_the_register_never_heard_of_is_entered_and_not_chosen(register: Register) -> None:
    load(register, OLA, email=EMAIL)

    sweep_id = compare(register, {OLA: account(False)}, "eboks")

    [box] = person(register).mailboxes
    assert kinds(register, sweep_id) == ["MAILBOX_MISSING"]
    assert (box.mailbox.address, chosen(register)) == (ADDRESS, "")


def test_a_deleted_person_gets_no_mailbox_and_the_operator_is_switched_off(register: Register) -> None:
    load(register, OLA, status=person_pb2.PERSON_STATUS_DELETED, reservation=0)

    sweep_id = compare(register, {OLA: account(True)}, "eboks")

    assert list(zip(kinds(register, sweep_id), reasons(register, sweep_id), strict=True)) == [
        ("MAILBOX_MISSING", "NOT_ALLOWED"),
        ("RECEIVES_WRONGLY", "UNSPECIFIED"),
    ]
    assert [each.receives_public_mail for each in lease(register, "eboks")] == [False]


def test_a_second_sweep_finds_what_was_repaired_in_order(register: Register, ola: str) -> None:
    compare(register, {ola: OFF})
    settle(register, "digipost")

    assert kinds(register, compare(register, {ola: ON})) == []


def test_a_dry_run_lists_everything_and_changes_nothing(
    register: Register, database: "Connection[Any]"
) -> None:
    for number, identifier in enumerate((OLA, KARI)):
        load(register, identifier, email=email_of_its_own(number), **at_eboks())
    before = contents(database)

    sweep_id = compare(register, {OLA: account(False, "new-address")}, "eboks", dry_run=True, max_repairs=1)

    assert sorted(kinds(register, sweep_id)) == ["ADDRESS", "DOES_NOT_RECEIVE", "MAILBOX_GONE"]
    assert set(reasons(register, sweep_id)) == {"DRY_RUN"}
    assert contents(database) == before


def test_a_sweep_that_finds_too_much_repairs_its_cap_and_stops(register: Register) -> None:
    load_many(register, 12)

    sweep_id = compare(register, {}, max_repairs=5)

    assert state(register, sweep_id) == "STOPPED_AT_CAP"
    assert sweep(register, sweep_id).repaired_count == 5
    assert reasons(register, sweep_id) == ["UNSPECIFIED"] * 5 + ["CAP"]
    assert len(lease(register, "digipost")) == 5


@pytest.mark.parametrize(("persons", "cap"), [(3, 10), (600, 12)])
def test_the_usual_cap_is_two_percent_and_at_least_ten(register: Register, persons: int, cap: int) -> None:
    load_many(register, persons)

    assert sweep(register, start(register)).max_repairs == cap


def test_who_changed_after_the_lease_is_read_again_before_anything_is_repaired(
    register: Register, ola: str
) -> None:
    sweep_id = start(register)
    [leased] = lease_comparisons(register)
    reserve(register)
    settle(register, "digipost")

    report(register, leased, account=ON)

    assert (kinds(register, sweep_id), state(register, sweep_id)) == ([], "RUNNING")
    [again] = lease_comparisons(register)
    report(register, again, account=OFF)
    assert (kinds(register, sweep_id), state(register, sweep_id)) == ([], "FINISHED")


def test_who_changed_while_the_sweep_was_on_the_way_is_compared_all_the_same(
    register: Register, ola: str
) -> None:
    load(register, KARI)
    sweep_id = start(register)
    [first] = lease_comparisons(register, count=1)
    reserve(register)
    report(register, first, account=NO_ACCOUNT)

    # Ola is no longer where the sweep would have come to next.
    read = [*lease_comparisons(register), *lease_comparisons(register)]

    assert [each.identifier for each in read] == [ola]
    assert state(register, sweep_id) == "RUNNING"


def test_while_the_operator_is_being_told_nothing_differs(register: Register, ola: str) -> None:
    reserve(register)

    assert kinds(register, compare(register, {ola: ON})) == []


def test_who_was_read_before_a_delivery_was_done_is_read_again(register: Register, ola: str) -> None:
    reserve(register)
    sweep_id = start(register)
    [leased] = lease_comparisons(register)
    settle(register, "digipost")

    report(register, leased, account=ON)

    assert kinds(register, sweep_id) == []
    assert [each.identifier for each in lease_comparisons(register)] == [ola]


def test_what_the_operator_refused_is_listed_and_not_asked_again(register: Register, ola: str) -> None:
    compare(register, {ola: OFF})
    [told] = lease(register, "digipost")
    refusal = pb.DeliveryRefused(error_code="NO_ACCOUNT")
    register.as_adapter("digipost").FinishDelivery(
        pb.FinishDeliveryRequest(delivery_id=told.delivery_id, lease_token=told.lease_token, refused=refusal)
    )

    sweep_id = compare(register, {ola: OFF})

    assert reasons(register, sweep_id) == ["DELIVERY_REFUSED"]
    assert lease(register, "digipost") == []


def test_who_cannot_be_read_is_tried_again_and_left_to_the_next_sweep(register: Register, ola: str) -> None:
    sweep_id = start(register)
    later = pb.TryLater(delay=Duration(), error_code="HTTP_503")

    for attempt in range(5):
        assert state(register, sweep_id) == "RUNNING"
        [leased] = lease_comparisons(register)
        assert leased.failed_attempts == attempt
        report(register, leased, try_later=later)

    assert (state(register, sweep_id), kinds(register, sweep_id)) == ("FINISHED", [])
    assert sweep(register, sweep_id).unread_count == 1


def test_what_could_not_be_read_waits_as_long_as_asked(register: Register, ola: str) -> None:
    start(register)
    [leased] = lease_comparisons(register)

    report(register, leased, try_later=pb.TryLater(delay=MINUTE, error_code="HTTP_503"))

    assert lease_comparisons(register) == []


def test_a_lease_that_ran_out_is_given_again_and_the_former_is_lost(
    register: Register, ola: str, database: "Connection[Any]"
) -> None:
    sweep_id = start(register)
    [leased] = lease_comparisons(register)
    database.execute("UPDATE comparison SET leased_until_time = now() - interval '1 second'")
    [again] = lease_comparisons(register)

    with pytest.raises(RegisterError) as refused:
        report(register, leased, account=OFF)
    report(register, again, account=ON)

    assert refused.value.reason == "LEASE_LOST"
    assert (again.failed_attempts, kinds(register, sweep_id)) == (1, [])


def test_no_adapter_ends_anothers_lease(register: Register, ola: str) -> None:
    start(register)
    [leased] = lease_comparisons(register)

    with pytest.raises(RegisterError) as refused:
        report(register, leased, "eboks", account=OFF)

    assert refused.value.reason == "LEASE_LOST"


def test_a_new_sweep_ends_the_one_that_runs_whose_leases_then_do_nothing(
    register: Register, ola: str
) -> None:
    former = start(register)
    [leased] = lease_comparisons(register)
    latter = start(register)

    report(register, leased, account=OFF)

    assert (state(register, former), state(register, latter)) == ("ENDED", "RUNNING")
    assert kinds(register, former) == []


def test_a_sweep_that_the_staff_ended_gives_nothing_out(register: Register, ola: str) -> None:
    sweep_id = start(register)

    ended = register.as_administrator().EndSweep(sweep_pb2.EndSweepRequest(sweep_id=sweep_id)).sweep

    assert ended.state == sweep_pb2.SWEEP_STATE_ENDED
    assert ended.HasField("ended_time")


def test_the_same_request_begins_one_sweep(register: Register) -> None:
    request = sweep_pb2.StartSweepRequest(request_id=request_id(), adapter="eboks")
    admin = register.as_administrator()

    first, second = admin.StartSweep(request), admin.StartSweep(request)

    assert (first.sweep_id, second.duplicate) == (second.sweep_id, True)
    assert state(register, first.sweep_id) == "RUNNING"


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda register: start(register, "nobody"), "UNKNOWN_OPERATOR"),
        (lambda register: sweep(register, 4711), "UNKNOWN_SWEEP"),
        (lambda register: found(register, 4711), "UNKNOWN_SWEEP"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(
    register: Register, call: Callable[[Register], Any], reason: str
) -> None:
    with pytest.raises(RegisterError) as refused:
        call(register)

    assert refused.value.reason == reason


def test_sweeps_are_listed_newest_first_by_pages(register: Register) -> None:
    begun = [start(register, adapter) for adapter in ("digipost", "eboks", "digipost")]
    admin = register.as_administrator()

    first = admin.ListSweeps(sweep_pb2.ListSweepsRequest(adapter="digipost", page_size=1))
    second = admin.ListSweeps(
        sweep_pb2.ListSweepsRequest(adapter="digipost", page_size=1, page_token=first.next_page_token)
    )

    listed = [each.sweep_id for page in (first, second) for each in page.sweeps]
    assert listed == [begun[2], begun[0]]


def test_digipost_is_compared_with_digiposts_side_only(register: Register) -> None:
    load(register, OLA, email=EMAIL, **at_eboks())

    assert kinds(register, compare(register, {OLA: OFF})) == []
    assert kinds(register, compare(register, {OLA: ON})) == ["RECEIVES_WRONGLY"]
    assert [each.receives_public_mail for each in lease(register, "digipost")] == [False]
    assert lease(register, "eboks") == []
    assert chosen(register) == EBOKS != DIGIPOST
