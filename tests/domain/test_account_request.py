"""When an operator may be asked for an account, what withdraws that, and what an opened one becomes."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from server.domain.change import Change
from server.domain.contact import ContactKind
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.person import DeletionReason, Mailbox, Person
from tests import people

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DIGIPOST, EBOKS = OrganisationNumber(people.DIGIPOST), OrganisationNumber(people.EBOKS)
EMAIL, MOBILE = ContactKind.EMAIL, ContactKind.MOBILE
ADDRESS = MailboxAddress("ola.nordmann#9YDT")
NEVER = Person(identifier=PersonIdentifier(people.OLA))
REACHED = NEVER.register(NOW, {EMAIL: "ola@example.com", MOBILE: "+4791234567"}, None)
BY_EMAIL = REACHED.update_contact(NOW, {MOBILE: None})
AT_EBOKS = REACHED.create_mailbox(Mailbox(operator=EBOKS, address=MailboxAddress("ola-nordmann-eboks")))
CHOSEN = AT_EBOKS.choose_mailbox(EBOKS)


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (NEVER, Reason.PERSON_NOT_FOUND),
        (REACHED.delete(DeletionReason.OWN_CHOICE), Reason.PERSON_NOT_FOUND),
        (REACHED.reserve(NOW), Reason.RESERVED),
        (BY_EMAIL, Reason.CONTACT_MISSING),
        (REACHED.update_contact(NOW, {EMAIL: None}), Reason.CONTACT_MISSING),
    ],
)
def test_an_account_is_asked_for_only_with_both_contact_points_and_unreserved(
    person: Person, reason: Reason
) -> None:
    REACHED.may_request_account()
    with pytest.raises(Refusal) as refused:
        person.may_request_account()
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("before", "after", "withdraws"),
    [
        (AT_EBOKS, CHOSEN, True),
        (CHOSEN, CHOSEN.reserve(NOW), True),
        (CHOSEN, CHOSEN.delete(DeletionReason.DEAD), True),
        (REACHED, BY_EMAIL, True),
        (REACHED, REACHED.update_contact(NOW, {MOBILE: "+4792345678"}), False),
        (BY_EMAIL, BY_EMAIL.update_contact(NOW, {EMAIL: None}), False),
        (CHOSEN, CHOSEN.delete_mailbox(EBOKS), False),
        (REACHED, AT_EBOKS, False),
        (CHOSEN, CHOSEN.confirm_contact(NOW), False),
    ],
)
def test_a_choice_a_reservation_a_deletion_and_lost_contact_info_withdraw_a_request_and_nothing_else_does(
    before: Person, after: Person, withdraws: bool
) -> None:
    assert Change(before, after).withdraws_account_request() is withdraws


def test_an_opened_account_becomes_a_mailbox_unless_one_stands_there_or_the_person_is_gone() -> None:
    entered = CHOSEN.enter_opened_account(DIGIPOST, ADDRESS)
    assert entered.mailbox_at(DIGIPOST) == Mailbox(operator=DIGIPOST, address=ADDRESS)
    assert replace(entered, mailboxes=CHOSEN.mailboxes) == CHOSEN
    assert entered.enter_opened_account(DIGIPOST, MailboxAddress("another#0001")) is entered
    gone = CHOSEN.delete(DeletionReason.OWN_CHOICE)
    assert gone.enter_opened_account(DIGIPOST, ADDRESS) is gone
