"""What both operators are told, in which order, at a switch, a reservation and a deletion."""

import psycopg
import pytest

from server.domain.outcome import Done, Refused
from server.domain.person import DeletionReason
from server.store.deliveries import LeasedDelivery
from server.store.store import Store
from tests.store.steps import (
    AT_ONCE,
    DIGIPOST,
    EBOKS,
    NOW,
    OLA,
    choose,
    finish,
    lease,
    lease_sms,
    register,
    write,
)


def _tell(store: Store, adapter: str) -> list[bool]:
    """Do what is due for the adapter; what it was told."""
    leased = lease(store, adapter)
    for each in leased:
        finish(store, adapter, each, Done())
    return [each.receives_public_mail for each in leased]


@pytest.fixture
def switched(store: Store) -> LeasedDelivery:
    """Ola switched from Digipost, which holds the choice, to e-Boks, whose on is leased."""
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    assert _tell(store, "digipost") == [True]
    choose(store, OLA, EBOKS)
    [on] = lease(store, "eboks")
    assert on.receives_public_mail
    return on


def test_the_old_operators_off_waits_until_the_new_ones_on_is_done(
    store: Store, switched: LeasedDelivery
) -> None:
    assert _tell(store, "digipost") == []
    finish(store, "eboks", switched, Done())
    assert _tell(store, "digipost") == [False]


def test_the_old_operators_off_waits_no_longer_than_configured(
    store: Store, switched: LeasedDelivery
) -> None:
    finish(store, "eboks", switched, Refused("NO_ACCOUNT"))
    assert lease(store, "digipost") == []
    [off] = lease(store, "digipost", wait_for_new_operator=AT_ONCE)
    assert not off.receives_public_mail


def test_the_wait_is_counted_from_the_switch(
    store: Store, switched: LeasedDelivery, database: psycopg.Connection
) -> None:
    database.execute("UPDATE delivery SET created_time = created_time - interval '23 hours 59 minutes'")
    assert lease(store, "digipost") == []
    database.execute("UPDATE delivery SET created_time = created_time - interval '1 minute'")
    assert [each.receives_public_mail for each in lease(store, "digipost")] == [False]


def test_a_switch_back_before_anything_was_told_leaves_the_first_operator_on(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    choose(store, OLA, EBOKS)
    choose(store, OLA, DIGIPOST)
    assert _tell(store, "eboks") == []
    assert _tell(store, "digipost") == [True]
    assert _tell(store, "eboks") == [False]


def test_no_off_waits_for_an_on_that_a_reservation_took_back(store: Store, switched: LeasedDelivery) -> None:
    write(store, OLA, lambda person: person.reserve(NOW))
    assert _tell(store, "digipost") == [False]
    finish(store, "eboks", switched, Done())
    assert _tell(store, "eboks") == [False]


def test_reserving_switches_off_and_cancelling_on_again_without_a_new_message(
    store: Store, database: psycopg.Connection
) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    assert _tell(store, "digipost") == [True]

    write(store, OLA, lambda person: person.reserve(NOW))
    assert _tell(store, "digipost") == [False]
    write(store, OLA, lambda person: person.cancel_reservation(NOW))
    assert _tell(store, "digipost") == [True]

    assert _tell(store, "eboks") == []
    assert len(lease_sms(store)) == 1
    assert database.execute("SELECT count(*) FROM message").fetchone() == (1,)


@pytest.mark.parametrize("reserved", [False, True])
def test_a_deleted_person_is_switched_off_though_no_mailbox_is_left(store: Store, reserved: bool) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    assert _tell(store, "digipost") == [True]
    if reserved:
        write(store, OLA, lambda person: person.reserve(NOW))

    write(store, OLA, lambda person: person.delete(DeletionReason.OWN_CHOICE))

    [off] = lease(store, "digipost")
    assert (off.receives_public_mail, off.address) == (False, None)
    finish(store, "digipost", off, Done())


def test_deleting_the_chosen_mailbox_switches_off_and_deleting_the_other_tells_nobody(store: Store) -> None:
    register(store, OLA)
    choose(store, OLA, DIGIPOST)
    assert _tell(store, "digipost") == [True]
    write(store, OLA, lambda person: person.delete_mailbox(EBOKS))
    assert _tell(store, "digipost") == _tell(store, "eboks") == []
    write(store, OLA, lambda person: person.delete_mailbox(DIGIPOST))
    assert _tell(store, "digipost") == [False]


def test_a_mailbox_that_is_not_chosen_is_no_matter_of_any_adapters(store: Store) -> None:
    register(store, OLA)
    write(store, OLA, lambda person: person.reserve(NOW))
    write(store, OLA, lambda person: person.delete(DeletionReason.OWN_CHOICE))
    assert _tell(store, "digipost") == _tell(store, "eboks") == []
