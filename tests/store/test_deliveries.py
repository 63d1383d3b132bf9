"""Deliveries: leased to one adapter at a time, and due until the operator has the newest."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from server.domain.errors import Reason
from server.domain.identifiers import PersonIdentifier
from server.domain.outcome import Done, Refused, TryLater
from server.domain.person import OperatorState
from server.store.deliveries import (
    DeliveryRow,
    LeasedDelivery,
    lease_deliveries,
    list_deliveries,
    retry_deliveries,
)
from server.store.store import Store
from server.store.transaction import Transaction
from tests.store import steps
from tests.store.steps import (
    A_MINUTE,
    AT_ONCE,
    DIGIPOST,
    EBOKS,
    KARI,
    NOW,
    OLA,
    choose,
    finish,
    in_time,
    lease,
    person_of,
    refusal_of,
    register,
    write,
)

IN_AN_HOUR = TryLater(timedelta(hours=1), "HTTP_503")


def _rows(store: Store, adapter: str = "") -> list[DeliveryRow]:
    return store.read(
        lambda reader: list_deliveries(
            reader, adapter=adapter, refused=None, min_failed_attempts=0, after=0, limit=100
        ),
        deadline=in_time(),
    )


def _retry(store: Store, ids: list[int], adapter: str = "") -> int:
    return store.write(
        steps.ADMINISTRATOR,
        lambda transaction: retry_deliveries(transaction, ids, adapter),
        deadline=in_time(),
    )


def _reserve(store: Store, identifier: PersonIdentifier = OLA) -> int:
    return write(store, identifier, lambda person: person.reserve(NOW)).change_number


def _cancel(store: Store, identifier: PersonIdentifier = OLA) -> int:
    return write(store, identifier, lambda person: person.cancel_reservation(NOW)).change_number


def _state_at_digipost(store: Store) -> OperatorState:
    mailbox = person_of(store, OLA).mailbox_at(DIGIPOST)
    assert mailbox
    return mailbox.operator_state


@pytest.fixture
def chosen(store: Store) -> LeasedDelivery:
    """The delivery of Ola's choice of Digipost, leased."""
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    [leased] = lease(store, "digipost")
    return leased


def test_a_choice_is_leased_with_what_the_operator_should_hold(store: Store) -> None:
    register(store, OLA)
    assert lease(store, "digipost") == []
    number = choose(store, OLA, DIGIPOST)
    assert _state_at_digipost(store) is OperatorState.PENDING

    [leased] = lease(store, "digipost")

    assert (leased.identifier, leased.change_number, leased.failed_attempts) == (OLA, number, 0)
    assert (leased.receives_public_mail, leased.address) == (True, "ola.nordmann#9YDT")
    assert lease(store, "digipost") == []
    assert lease(store, "eboks") == []


def test_a_delivery_that_is_done_is_gone_and_the_mailbox_in_step(
    store: Store, chosen: LeasedDelivery
) -> None:
    finish(store, "digipost", chosen, Done())
    assert _rows(store) == []
    assert _state_at_digipost(store) is OperatorState.IN_STEP


@pytest.mark.parametrize("outcome", [Done(), IN_AN_HOUR, Refused("HTTP_400")])
def test_only_the_holder_of_the_lease_finishes_and_only_once(
    store: Store, chosen: LeasedDelivery, outcome: Done | TryLater | Refused
) -> None:
    wrong = replace(chosen, lease_token=uuid.uuid4())
    assert refusal_of(lambda: finish(store, "digipost", wrong, outcome)) is Reason.LEASE_LOST
    assert refusal_of(lambda: finish(store, "eboks", chosen, outcome)) is Reason.LEASE_LOST
    assert _state_at_digipost(store) is OperatorState.PENDING

    finish(store, "digipost", chosen, outcome)

    assert refusal_of(lambda: finish(store, "digipost", chosen, outcome)) is Reason.LEASE_LOST


@pytest.mark.parametrize("outcome", [Done(), IN_AN_HOUR, Refused("HTTP_400")])
def test_an_outcome_does_not_count_where_the_person_changed_during_the_lease(
    store: Store, chosen: LeasedDelivery, outcome: Done | TryLater | Refused
) -> None:
    number = _reserve(store)
    assert lease(store, "digipost") == [], "the change leaves the lease alone"

    finish(store, "digipost", chosen, outcome)

    assert _state_at_digipost(store) is OperatorState.PENDING
    [again] = lease(store, "digipost")
    assert (again.receives_public_mail, again.change_number, again.failed_attempts) == (False, number, 0)


def test_a_change_that_is_no_matter_of_the_operators_leaves_the_outcome_counting(
    store: Store, chosen: LeasedDelivery
) -> None:
    write(store, OLA, lambda person: person.confirm_contact(NOW))
    finish(store, "digipost", chosen, Done())
    assert _rows(store) == []


def test_a_change_there_and_back_during_the_lease_is_delivered_again(
    store: Store, chosen: LeasedDelivery
) -> None:
    _reserve(store)
    _cancel(store)
    finish(store, "digipost", chosen, Done())
    [again] = lease(store, "digipost")
    assert again.receives_public_mail


def test_a_lease_that_ran_out_is_given_to_another_and_its_token_is_lost(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    [first] = lease(store, "digipost", duration=AT_ONCE)

    [second] = lease(store, "digipost")

    assert second.id == first.id
    assert second.lease_token != first.lease_token
    assert (first.earlier_lease_ran_out, second.earlier_lease_ran_out) == (False, True)
    assert refusal_of(lambda: finish(store, "digipost", first, Done())) is Reason.LEASE_LOST
    finish(store, "digipost", second, Done())
    assert _rows(store) == []


def test_a_lease_that_ran_out_is_told_also_after_a_change_and_until_an_outcome(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    lease(store, "digipost", duration=AT_ONCE)
    _reserve(store)

    [off] = lease(store, "digipost")
    finish(store, "digipost", off, IN_AN_HOUR)
    database.execute("UPDATE delivery SET not_before_time = now()")
    [again] = lease(store, "digipost")

    assert (off.receives_public_mail, again.receives_public_mail) == (False, False)
    assert (off.earlier_lease_ran_out, again.earlier_lease_ran_out) == (True, False)


def test_many_adapters_at_once_share_the_deliveries_without_one_going_to_two(store: Store) -> None:
    persons = steps.some_persons(40)
    for identifier in persons:
        register(store, identifier)
        choose(store, identifier, DIGIPOST)

    def lease_all() -> list[LeasedDelivery]:
        found: list[LeasedDelivery] = []
        while some := lease(store, "digipost", limit=3):
            found += some
        return found

    # Who finds the rest locked by others stops early; what that leaves is for the last one.
    shares = [*steps.together(*[lease_all] * 6), lease_all()]
    assert sorted(each.identifier for share in shares for each in share) == sorted(persons)


def test_whoever_leases_passes_by_what_another_is_leasing(store: Store) -> None:
    for identifier in (OLA, KARI):
        register(store, identifier)
        choose(store, identifier, DIGIPOST)
    others: list[LeasedDelivery] = []

    def do(transaction: Transaction) -> list[LeasedDelivery]:
        own = lease_deliveries(
            transaction, "digipost", limit=1, duration=A_MINUTE, wait_for_new_operator=steps.A_DAY
        )
        others.extend(lease(store, "digipost"))
        return own

    [first] = store.write(steps.ADMINISTRATOR, do, deadline=in_time())
    [other] = others
    assert (first.identifier, other.identifier) == (OLA, KARI), "the oldest first"


def test_a_delivery_to_try_later_waits_counts_and_keeps_the_error(
    store: Store, chosen: LeasedDelivery, database: psycopg.Connection
) -> None:
    finish(store, "digipost", chosen, IN_AN_HOUR)
    assert lease(store, "digipost") == []
    [row] = _rows(store)
    assert (row.failed_attempts, row.last_error_code, row.refused) == (1, "HTTP_503", False)
    assert row.not_before_time - row.created_time > timedelta(minutes=59)
    assert _state_at_digipost(store) is OperatorState.PENDING

    database.execute("UPDATE delivery SET not_before_time = now()")
    [again] = lease(store, "digipost")
    assert again.failed_attempts == 1


@pytest.mark.parametrize("outcome", [IN_AN_HOUR, Refused("HTTP_400")])
def test_a_new_change_makes_a_delivery_due_at_once_and_counts_anew(
    store: Store, chosen: LeasedDelivery, outcome: TryLater | Refused
) -> None:
    finish(store, "digipost", chosen, outcome)
    _reserve(store)
    [row] = _rows(store)
    assert (row.failed_attempts, row.last_error_code) == (0, None)
    assert [each.failed_attempts for each in lease(store, "digipost")] == [0]


@pytest.mark.parametrize(
    ("error_code", "state"),
    [("HTTP_400", OperatorState.REFUSED), ("NO_ACCOUNT", OperatorState.NO_ACCOUNT)],
)
def test_a_refused_delivery_rests_until_someone_retries_it(
    store: Store, chosen: LeasedDelivery, error_code: str, state: OperatorState
) -> None:
    finish(store, "digipost", chosen, Refused(error_code))
    assert lease(store, "digipost") == []
    [row] = _rows(store)
    assert (row.refused, row.last_error_code, _state_at_digipost(store)) == (True, error_code, state)

    assert _retry(store, [row.id]) == 1

    [again] = lease(store, "digipost")
    finish(store, "digipost", again, Done())
    assert _state_at_digipost(store) is OperatorState.IN_STEP


def test_a_retry_without_ids_takes_the_refused_ones_of_that_adapter_only(store: Store) -> None:
    for identifier, operator in zip(steps.some_persons(3), (DIGIPOST, DIGIPOST, EBOKS), strict=True):
        register(store, identifier)
        choose(store, identifier, operator)
    first, _ = lease(store, "digipost")
    finish(store, "digipost", first, Refused("HTTP_400"))
    [other] = lease(store, "eboks")
    finish(store, "eboks", other, Refused("HTTP_400"))

    assert _retry(store, [], "digipost") == 1

    assert [row.refused for row in _rows(store, "digipost")] == [False, False]
    assert [row.refused for row in _rows(store, "eboks")] == [True]


def test_what_changes_while_it_is_leased_is_never_left_stale(store: Store) -> None:
    persons = steps.some_persons(30)
    told: dict[str, LeasedDelivery] = {}
    ended = threading.Event()
    for identifier in persons:
        register(store, identifier)
        choose(store, identifier, DIGIPOST)

    def deliver() -> None:
        while not ended.is_set():
            for leased in lease(store, "digipost"):
                told[leased.identifier] = leased
                finish(store, "digipost", leased, Done())

    def change() -> None:
        for _ in range(3):
            for identifier in persons:
                _reserve(store, identifier)
                _cancel(store, identifier)
            while _rows(store):
                time.sleep(0.001)
            assert [each.identifier for each in told.values() if not each.receives_public_mail] == []

    with ThreadPoolExecutor() as threads:
        adapters = [threads.submit(deliver) for _ in range(2)]
        try:
            threads.submit(change).result(timeout=60)
        finally:
            ended.set()
        for each in adapters:
            each.result()
