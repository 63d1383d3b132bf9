"""Accounts that citizens ask operators to open: a delivery until there is an address, then a choice."""

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

from server.domain.caller import CallerKind
from server.domain.contact import ContactKind
from server.domain.errors import Reason
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.outcome import Done, Refused, TryLater
from server.domain.person import DeletionReason, Mailbox, OperatorState, Person
from server.store.account_requests import AccountRequest, find_account_request, request_account
from server.store.deliveries import LeasedDelivery, retry_deliveries
from server.store.history import list_history
from server.store.store import Store
from server.store.transaction import Transaction
from tests.store import steps
from tests.store.steps import (
    ADMINISTRATOR,
    DIGIPOST,
    EBOKS,
    MAILBOXES,
    MOBILE,
    NOW,
    OLA,
    finish,
    in_time,
    lease,
    message_states,
    person_of,
    refusal_of,
    write,
)

ADDRESS = MailboxAddress("ola.nordmann#OPEN")
OPENED = Mailbox(operator=DIGIPOST, address=ADDRESS)
PENDING = AccountRequest(DIGIPOST, OperatorState.PENDING)
AT_EBOKS = MAILBOXES[1]


def _ask(store: Store, operator: OrganisationNumber = DIGIPOST) -> None:
    def do(transaction: Transaction) -> None:
        request_account(transaction, transaction.person(OLA), operator)

    store.write(ADMINISTRATOR, do, deadline=in_time())


def _found(store: Store, identifier: PersonIdentifier = OLA) -> AccountRequest | None:
    return store.read(lambda reader: find_account_request(reader, identifier), deadline=in_time())


def _last_change(store: Store) -> tuple[CallerKind, tuple[str, ...]]:
    [entry] = store.read(lambda reader: list_history(reader, OLA, before=None, limit=1), deadline=in_time())
    return entry.changed_by, entry.fields


@pytest.fixture
def asked(store: Store) -> LeasedDelivery:
    """Ola, who has a mailbox at e-Boks, not chosen, asked Digipost for an account; the lease of it."""
    values = {ContactKind.EMAIL: "ola@example.com", MOBILE: "+4791234567"}
    write(store, OLA, lambda person: person.register(NOW, values, None).create_mailbox(AT_EBOKS))
    _ask(store)
    [leased] = lease(store, "digipost")
    return leased


def test_a_request_is_leased_with_the_contact_info_and_changes_nothing_of_the_person(
    store: Store, asked: LeasedDelivery
) -> None:
    assert (asked.email, asked.mobile) == ("ola@example.com", "+4791234567")
    assert (asked.receives_public_mail, asked.address, asked.change_number) == (False, None, 1)
    person = person_of(store, OLA)
    assert (person.change_number, person.mailboxes, person.chosen) == (1, (AT_EBOKS,), None)
    assert _found(store) == PENDING
    assert message_states(store) == []


def test_an_opened_account_is_entered_and_chosen_as_the_citizens_doing_and_switched_on_next(
    store: Store, asked: LeasedDelivery
) -> None:
    finish(store, "digipost", asked, Done(ADDRESS))

    person = person_of(store, OLA)
    assert (person.mailbox_at(DIGIPOST), person.chosen) == (OPENED, DIGIPOST)
    assert _found(store) is None
    assert _last_change(store) == (CallerKind.CITIZEN, ("mailboxes", "chosen"))
    assert message_states(store) == [("QUEUED", None)]
    [on] = lease(store, "digipost")
    assert (on.receives_public_mail, on.address, on.email, on.mobile) == (True, ADDRESS, None, None)
    finish(store, "digipost", on, Done())
    assert lease(store, "digipost") == []
    assert refusal_of(lambda: finish(store, "digipost", asked, Done(ADDRESS))) is Reason.LEASE_LOST


def test_an_adapter_that_was_killed_after_the_opening_is_followed_by_one_that_brings_the_address(
    store: Store, asked: LeasedDelivery, database: psycopg.Connection
) -> None:
    assert lease(store, "digipost") == []
    database.execute("UPDATE delivery SET leased_until_time = now() - interval '1 second'")
    [again] = lease(store, "digipost")
    assert again.earlier_lease_ran_out
    assert again.mobile == "+4791234567"

    finish(store, "digipost", again, Done(ADDRESS))

    assert refusal_of(lambda: finish(store, "digipost", asked, Done(ADDRESS))) is Reason.LEASE_LOST
    assert person_of(store, OLA).chosen == DIGIPOST
    assert len(message_states(store)) == 1


WITHDRAWALS: dict[str, Callable[[Person], Person]] = {
    "choice": lambda person: person.choose_mailbox(EBOKS),
    "reservation": lambda person: person.reserve(NOW),
    "loss of e-mail": lambda person: person.update_contact(NOW, {ContactKind.EMAIL: None}),
    "loss of mobile": lambda person: person.update_contact(NOW, {MOBILE: None}),
}


@pytest.mark.parametrize("withdrawal", WITHDRAWALS)
def test_who_withdrew_in_between_gets_the_account_as_a_mailbox_that_is_not_chosen(
    store: Store, asked: LeasedDelivery, withdrawal: str
) -> None:
    write(store, OLA, WITHDRAWALS[withdrawal])
    chosen = person_of(store, OLA).chosen
    assert _found(store) is None

    finish(store, "digipost", asked, Done(ADDRESS))

    person = person_of(store, OLA)
    assert (person.mailbox_at(DIGIPOST), person.chosen) == (OPENED, chosen)
    assert _last_change(store) == (CallerKind.OPERATOR, ("mailboxes",))
    [off] = lease(store, "digipost", wait_for_new_operator=timedelta())
    assert (off.receives_public_mail, off.address, off.email) == (False, ADDRESS, None)


@pytest.mark.parametrize("withdrawal", WITHDRAWALS)
@pytest.mark.parametrize("outcome", [Done(), TryLater(timedelta(hours=1), "HTTP_503"), Refused("NO_ACCOUNT")])
def test_another_outcome_of_a_request_that_was_withdrawn_does_not_count(
    store: Store, asked: LeasedDelivery, withdrawal: str, outcome: Done | TryLater | Refused
) -> None:
    write(store, OLA, WITHDRAWALS[withdrawal])
    finish(store, "digipost", asked, outcome)
    [off] = lease(store, "digipost", wait_for_new_operator=timedelta())
    assert (off.receives_public_mail, off.failed_attempts, off.email) == (False, 0, None)
    finish(store, "digipost", off, Done())
    assert lease(store, "digipost") == []


def test_an_account_of_a_person_who_was_deleted_meanwhile_is_not_entered(
    store: Store, asked: LeasedDelivery
) -> None:
    write(store, OLA, lambda person: person.delete(DeletionReason.OWN_CHOICE))
    assert _found(store) is None
    finish(store, "digipost", asked, Done(ADDRESS))
    assert person_of(store, OLA).mailboxes == ()
    assert message_states(store) == []


def test_a_refusal_stays_to_be_seen_until_the_citizen_asks_again(store: Store, asked: LeasedDelivery) -> None:
    finish(store, "digipost", asked, Refused("ACCOUNT_DEACTIVATED"))
    assert _found(store) == AccountRequest(DIGIPOST, OperatorState.REFUSED)
    assert lease(store, "digipost") == []

    _ask(store)

    assert _found(store) == PENDING
    [again] = lease(store, "digipost")
    assert again.email == "ola@example.com"


def test_the_registers_staff_may_have_a_refused_opening_tried_again(
    store: Store, asked: LeasedDelivery
) -> None:
    finish(store, "digipost", asked, Refused("ACCOUNT_DEACTIVATED"))
    store.write(
        ADMINISTRATOR, lambda transaction: retry_deliveries(transaction, [], "digipost"), deadline=in_time()
    )
    [again] = lease(store, "digipost")
    assert again.email == "ola@example.com"


def test_an_outcome_without_address_leaves_the_request_where_it_was_asked_again_meanwhile(
    store: Store, asked: LeasedDelivery
) -> None:
    _ask(store)
    finish(store, "digipost", asked, Refused("ACCOUNT_DEACTIVATED"))
    assert _found(store) == PENDING
    [again] = lease(store, "digipost")
    assert again.email == "ola@example.com"


def test_a_request_survives_the_lease_of_a_switch_off_that_was_out_when_it_came(
    store: Store, asked: LeasedDelivery
) -> None:
    write(store, OLA, lambda person: person.reserve(NOW))
    write(store, OLA, lambda person: person.cancel_reservation(NOW))
    finish(store, "digipost", asked, TryLater(timedelta(), "HTTP_503"))
    [off] = lease(store, "digipost")
    assert off.email is None
    _ask(store)
    finish(store, "digipost", off, Done())
    [opening] = lease(store, "digipost")
    assert opening.email == "ola@example.com"


def test_the_address_must_be_there_where_an_account_was_to_be_opened_and_only_there(
    store: Store, asked: LeasedDelivery
) -> None:
    assert refusal_of(lambda: finish(store, "digipost", asked, Done())) is Reason.INVALID_FIELD
    finish(store, "digipost", asked, Done(ADDRESS))
    [on] = lease(store, "digipost")
    assert refusal_of(lambda: finish(store, "digipost", on, Done(ADDRESS))) is Reason.INVALID_FIELD
    finish(store, "digipost", on, Done())


def test_a_mailbox_that_the_operator_reported_itself_is_kept_and_chosen(
    store: Store, asked: LeasedDelivery
) -> None:
    reported = Mailbox(operator=DIGIPOST, address=MailboxAddress("reported#0001"))
    write(store, OLA, lambda person: person.create_mailbox(reported))
    assert _found(store) == PENDING
    finish(store, "digipost", asked, Done(ADDRESS))
    person = person_of(store, OLA)
    assert (person.mailbox_at(DIGIPOST), person.chosen) == (reported, DIGIPOST)


def test_a_request_at_another_operator_takes_the_place_of_the_first(
    store: Store, asked: LeasedDelivery
) -> None:
    write(store, OLA, lambda person: person.delete_mailbox(EBOKS))
    _ask(store, EBOKS)
    assert _found(store) == AccountRequest(EBOKS, OperatorState.PENDING)
    finish(store, "digipost", asked, Done(ADDRESS))
    assert person_of(store, OLA).chosen is None
    assert _found(store) == AccountRequest(EBOKS, OperatorState.PENDING)


def test_an_opening_waits_for_no_other_operator(store: Store, asked: LeasedDelivery) -> None:
    write(store, OLA, lambda person: person.choose_mailbox(EBOKS))
    _ask(store)
    finish(store, "digipost", asked, TryLater(timedelta(), "HTTP_503"))
    [opening] = lease(store, "digipost")
    assert opening.email == "ola@example.com"


def test_one_who_lost_contact_info_under_an_older_server_has_no_account_opened(
    store: Store, asked: LeasedDelivery, database: psycopg.Connection
) -> None:
    finish(store, "digipost", asked, TryLater(timedelta(), "HTTP_503"))
    # That server knew nothing of the request.
    database.execute("UPDATE person SET mobile = NULL, mobile_updated_time = NULL, mobile_digest = NULL")
    [off] = lease(store, "digipost")
    assert (off.receives_public_mail, off.email, off.mobile) == (False, None, None)
    finish(store, "digipost", off, Done())
    assert steps.refusal_of(lambda: finish(store, "digipost", off, Done())) is Reason.LEASE_LOST
    assert lease(store, "digipost") == []
