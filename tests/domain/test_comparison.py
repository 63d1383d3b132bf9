"""In what an operator's side and the register differ, and what the operator is right about."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.comparison import Account, DifferenceKind, as_operator_says, differences
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.person import Mailbox, Person, Status
from tests import people

DIGIPOST, EBOKS = OrganisationNumber(people.DIGIPOST), OrganisationNumber(people.EBOKS)
HERE, THERE = MailboxAddress("an-address"), MailboxAddress("another-address")
CERTIFICATE = b"a certificate"

IN_USE = Mailbox(operator=EBOKS, address=HERE, certificate=CERTIFICATE)
CHOSEN = Person(
    identifier=PersonIdentifier(people.OLA), status=Status.ACTIVE, mailboxes=(IN_USE,), chosen=EBOKS
)
IN_STEP = Account(receives_public_mail=True, exists=True, address=HERE, certificate=CERTIFICATE)

mailboxes = st.builds(
    lambda operator, address, certificate: Mailbox(
        operator=operator, address=address, certificate=certificate
    ),
    st.sampled_from([DIGIPOST, EBOKS]),
    st.sampled_from([HERE, THERE]),
    st.sampled_from([None, CERTIFICATE]),
)
accounts = st.builds(
    Account,
    receives_public_mail=st.booleans(),
    exists=st.sampled_from([None, False, True]),
    address=st.sampled_from([None, HERE, THERE]),
    certificate=st.sampled_from([None, b"", CERTIFICATE]),
)


@st.composite
def persons(draw: st.DrawFn) -> Person:
    boxes = draw(st.lists(mailboxes, unique_by=lambda box: box.operator))
    chosen = draw(st.sampled_from([None, *(box.operator for box in boxes)]))
    return replace(CHOSEN, mailboxes=tuple(boxes), chosen=chosen, reserved=draw(st.booleans()))


def receives(person: Person) -> bool:
    """Whether e-Boks shall receive the person's public mail."""
    mailbox = person.public_mailbox()
    return mailbox is not None and mailbox.operator == EBOKS


@pytest.mark.parametrize(
    ("person", "account", "kinds"),
    [
        (CHOSEN, IN_STEP, ()),
        (CHOSEN, replace(IN_STEP, receives_public_mail=False), (DifferenceKind.DOES_NOT_RECEIVE,)),
        (replace(CHOSEN, reserved=True), IN_STEP, (DifferenceKind.RECEIVES_WRONGLY,)),
        (replace(CHOSEN, chosen=None), IN_STEP, (DifferenceKind.RECEIVES_WRONGLY,)),
        (CHOSEN, Account(receives_public_mail=False, exists=False), (DifferenceKind.MAILBOX_GONE,)),
        (CHOSEN, replace(IN_STEP, address=THERE), (DifferenceKind.ADDRESS,)),
        (CHOSEN, replace(IN_STEP, certificate=b""), (DifferenceKind.CERTIFICATE,)),
        (
            replace(CHOSEN, mailboxes=(), chosen=None),
            replace(IN_STEP, receives_public_mail=False),
            (DifferenceKind.MAILBOX_MISSING,),
        ),
    ],
)
def test_each_kind_of_difference_is_told_by_its_name(
    person: Person, account: Account, kinds: tuple[DifferenceKind, ...]
) -> None:
    assert differences(person, EBOKS, account) == kinds


def test_who_has_an_account_elsewhere_only_need_have_none_here() -> None:
    elsewhere = Mailbox(operator=DIGIPOST, address=HERE)
    person = replace(CHOSEN, mailboxes=(elsewhere,), chosen=DIGIPOST)

    assert not differences(person, EBOKS, Account(receives_public_mail=False, exists=False))


@given(persons(), accounts)
def test_what_the_operator_does_not_tell_never_differs(person: Person, account: Account) -> None:
    told = replace(account, exists=None, address=None, certificate=None)

    assert all(kind.is_of_choice for kind in differences(person, EBOKS, told))


@given(persons(), accounts)
def test_once_the_operator_is_believed_and_follows_the_choice_nothing_differs(
    person: Person, account: Account
) -> None:
    after = as_operator_says(person, EBOKS, account)

    assert not differences(after, EBOKS, replace(account, receives_public_mail=receives(after)))


@given(persons(), accounts)
def test_who_is_believed_changes_nothing_where_only_the_choice_differs(
    person: Person, account: Account
) -> None:
    if all(kind.is_of_choice for kind in differences(person, EBOKS, account)):
        assert as_operator_says(person, EBOKS, account) == person


@given(persons(), accounts)
def test_an_operator_is_believed_about_its_own_mailbox_only(person: Person, account: Account) -> None:
    after = as_operator_says(person, EBOKS, account)

    assert after.mailbox_at(DIGIPOST) == person.mailbox_at(DIGIPOST)
    assert after.chosen in (person.chosen, None)
    assert (after.reserved, after.contacts) == (person.reserved, person.contacts)


def test_nobody_who_was_deleted_gets_a_mailbox_back() -> None:
    deleted = Person(identifier=CHOSEN.identifier, status=Status.DELETED)

    with pytest.raises(Refusal) as refused:
        as_operator_says(deleted, EBOKS, IN_STEP)

    assert refused.value.reason is Reason.PERSON_NOT_FOUND
