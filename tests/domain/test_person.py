"""What each verb does to a person, and when it is refused."""

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.change import Change
from server.domain.contact import ContactKind, ContactPoint
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.person import DeletionReason, Language, Mailbox, OperatorState, Person, Status
from tests import people

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=30)
DIGIPOST, EBOKS = OrganisationNumber(people.DIGIPOST), OrganisationNumber(people.EBOKS)
EMAIL, MOBILE = ContactKind.EMAIL, ContactKind.MOBILE

AT_DIGIPOST = Mailbox(operator=DIGIPOST, address=MailboxAddress("ola.nordmann#9YDT"))
MOVED_AT_DIGIPOST = replace(AT_DIGIPOST, address=MailboxAddress("ola.nordmann#40NU"))
AT_EBOKS = Mailbox(operator=EBOKS, address=MailboxAddress("ola-nordmann-eboks"))

NEVER = Person(identifier=PersonIdentifier(people.OLA))
EARLIER = PersonIdentifier(people.KARI)
BARE = NEVER.register(NOW, {}, None)
BOXED = BARE.create_mailbox(AT_DIGIPOST)
REACHED = NEVER.register(NOW, {EMAIL: "ola@example.com", MOBILE: "+4791234567"}, Language.NN)
BOTH = REACHED.create_mailbox(AT_DIGIPOST).create_mailbox(AT_EBOKS)
CHOSEN = BOTH.choose_mailbox(DIGIPOST)
RESERVED = CHOSEN.reserve(NOW)
DELETED = CHOSEN.delete(DeletionReason.OWN_CHOICE)
IDENTITY_ENDS = (DeletionReason.DEAD, DeletionReason.EXPIRED_IDENTITY, DeletionReason.NEW_IDENTITY)
IDENTITY_GOES_ON = (DeletionReason.OWN_CHOICE, DeletionReason.DISAPPEARED, DeletionReason.SHARED_CONTACT)
PERSONS = {
    "NEVER": NEVER,
    "DELETED": DELETED,
    "BARE": BARE,
    "BOXED": BOXED,
    "REACHED": REACHED,
    "BOTH": BOTH,
    "CHOSEN": CHOSEN,
    "RESERVED": RESERVED,
}


def may_choose_mailbox(person: Person, now: datetime) -> Person:
    person.may_choose_mailbox()
    return person


VERBS: Mapping[str, Callable[[Person, datetime], Person]] = {
    "register": lambda person, now: person.register(now, {EMAIL: "ola@example.com"}, Language.NB),
    "register_bare": lambda person, now: person.register(now, {}, None),
    "update_contact": lambda person, now: person.update_contact(now, {MOBILE: "+4741234567"}),
    "remove_contact": lambda person, now: person.update_contact(now, {EMAIL: None, MOBILE: None}),
    "confirm_contact": Person.confirm_contact,
    "validate_contact": lambda person, now: person.validate_contact(now, MOBILE),
    "set_language": lambda person, now: person.set_language(now, Language.SE),
    "reserve": Person.reserve,
    "cancel_reservation": Person.cancel_reservation,
    "choose_mailbox": lambda person, _: person.choose_mailbox(DIGIPOST),
    "choose_eboks": lambda person, _: person.choose_mailbox(EBOKS),
    "delete": lambda person, _: person.delete(DeletionReason.OWN_CHOICE),
    "die": lambda person, _: person.delete(DeletionReason.DEAD),
    "take_over": lambda person, _: person.take_over(replace(RESERVED, identifier=EARLIER)),
    "take_over_nobody": lambda person, _: person.take_over(replace(DELETED, identifier=EARLIER)),
    "fill_choice": lambda person, _: person.fill_choice(DIGIPOST),
    "fill_eboks": lambda person, _: person.fill_choice(EBOKS),
    "may_choose": may_choose_mailbox,
    "create_mailbox": lambda person, _: person.create_mailbox(AT_DIGIPOST),
    "create_moved": lambda person, _: person.create_mailbox(MOVED_AT_DIGIPOST),
    "create_and_choose": lambda person, _: person.create_and_choose_mailbox(AT_DIGIPOST),
    "create_and_choose_moved": lambda person, _: person.create_and_choose_mailbox(MOVED_AT_DIGIPOST),
    "create_and_choose_eboks": lambda person, _: person.create_and_choose_mailbox(AT_EBOKS),
    "delete_mailbox": lambda person, _: person.delete_mailbox(DIGIPOST),
    "delete_eboks": lambda person, _: person.delete_mailbox(EBOKS),
}

SAYS = {
    "ok": None,
    "unknown": Reason.PERSON_NOT_FOUND,
    "active": Reason.ALREADY_REGISTERED,
    "reserved": Reason.RESERVED,
    "no-box": Reason.NO_MAILBOX,
    "silent": Reason.CONTACT_MISSING,
    "taken": Reason.ALREADY_CHOSEN,
    "exists": Reason.MAILBOX_EXISTS,
}
# BOXED has a mailbox at Digipost only; the verbs that do not name e-Boks are Digipost's.
ANSWERS = """
                         NEVER    DELETED  BARE    BOXED   REACHED  BOTH    CHOSEN  RESERVED
register                 ok       ok       active  active  active   active  active  active
register_bare            ok       ok       active  active  active   active  active  active
update_contact           unknown  unknown  ok      ok      ok       ok      ok      ok
remove_contact           unknown  unknown  ok      ok      ok       ok      ok      ok
confirm_contact          unknown  unknown  silent  silent  ok       ok      ok      ok
validate_contact         unknown  unknown  silent  silent  ok       ok      ok      ok
set_language             unknown  unknown  ok      ok      ok       ok      ok      ok
reserve                  ok       ok       ok      ok      ok       ok      ok      ok
cancel_reservation       unknown  unknown  ok      ok      ok       ok      ok      ok
choose_mailbox           unknown  unknown  no-box  silent  no-box   ok      ok      reserved
choose_eboks             unknown  unknown  no-box  no-box  no-box   ok      ok      reserved
delete                   unknown  unknown  ok      ok      ok       ok      ok      ok
die                      unknown  unknown  ok      ok      ok       ok      ok      ok
take_over                ok       ok       active  active  active   active  active  active
take_over_nobody         unknown  unknown  unknown unknown unknown  unknown unknown unknown
fill_choice              unknown  unknown  no-box  silent  no-box   ok      taken   reserved
fill_eboks               unknown  unknown  no-box  no-box  no-box   ok      taken   reserved
may_choose               unknown  unknown  silent  silent  ok       ok      taken   reserved
create_mailbox           unknown  unknown  ok      ok      ok       ok      ok      ok
create_moved             unknown  unknown  ok      exists  ok       exists  exists  exists
create_and_choose        unknown  unknown  silent  silent  ok       ok      taken   reserved
create_and_choose_moved  unknown  unknown  silent  exists  ok       exists  exists  reserved
create_and_choose_eboks  unknown  unknown  silent  silent  ok       ok      taken   reserved
delete_mailbox           unknown  unknown  no-box  ok      no-box   ok      ok      ok
delete_eboks             unknown  unknown  no-box  no-box  no-box   ok      ok      ok
"""
ROWS = [line.split() for line in ANSWERS.strip().splitlines()]
CASES = [
    (verb, person, SAYS[word])
    for verb, *words in ROWS[1:]
    for person, word in zip(ROWS[0], words, strict=True)
]


def test_the_table_has_every_verb_and_every_person() -> None:
    assert {(verb, person) for verb, person, _ in CASES} == {(v, p) for v in VERBS for p in PERSONS}


@pytest.mark.parametrize(("verb", "person", "reason"), CASES)
def test_each_verb_is_refused_to_whom_the_table_says(verb: str, person: str, reason: Reason | None) -> None:
    before = copy.deepcopy(PERSONS[person])
    try:
        VERBS[verb](PERSONS[person], LATER)
    except Refusal as refusal:
        assert refusal.reason is reason
    else:
        assert reason is None
    assert PERSONS[person] == before


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=30))
def test_no_order_of_verbs_breaks_an_entry(names: list[str]) -> None:
    person, now = NEVER, NOW
    for name in names:
        now += timedelta(minutes=1)
        before = copy.deepcopy(person)
        try:
            after = VERBS[name](person, now)
        except Refusal:
            continue
        assert person == before, "a verb changes no person in place"
        _must_hold(after)
        _must_follow(Change(person, after, EARLIER if name == "take_over" else None), name)
        person = after


@st.composite
def entries(draw: st.DrawFn) -> Person:
    """A person after any order of verbs."""
    person, now = NEVER, NOW
    for name in draw(st.lists(st.sampled_from(sorted(VERBS)), max_size=12)):
        now += timedelta(minutes=1)
        with suppress(Refusal):
            person = VERBS[name](person, now)
    return replace(person, change_number=7)


@given(entries(), st.sampled_from([NEVER, DELETED]))
def test_whoever_is_taken_over_is_all_there_under_the_other_identifier_and_nowhere_else(
    old: Person, successor: Person
) -> None:
    new = replace(successor, identifier=EARLIER, change_number=3)
    if old.status is not Status.ACTIVE:
        with pytest.raises(Refusal):
            new.take_over(old)
        return
    arrived = Change(new, new.take_over(old), takes_over=old.identifier)
    left = Change(old, old.delete(DeletionReason.NEW_IDENTITY))

    assert arrived.after == replace(old, identifier=EARLIER, change_number=3)
    assert left.after.status is Status.DELETED
    assert "identifier" in arrived.fields()
    assert "identifier" not in left.fields()
    assert arrived.operators_to_tell() == left.operators_to_tell()
    assert arrived.operators_concerned() == left.operators_concerned()
    for change in (arrived, left):
        _must_hold(change.after)
        assert change.newly_chosen() is None


def _must_hold(person: Person) -> None:
    operators = [mailbox.operator for mailbox in person.mailboxes]
    assert operators == sorted(set(operators)), "one mailbox at each operator, in order"
    assert person.chosen is None or person.chosen in operators, "the chosen one has a mailbox"
    if person.status is not Status.ACTIVE:
        empty = Person(
            identifier=person.identifier,
            status=person.status,
            change_number=person.change_number,
            deletion_reason=person.deletion_reason,
        )
        assert person == empty, "a tombstone holds nothing but its reason"
    assert (person.deletion_reason is not None) is (person.status is Status.DELETED)
    if person.reserved or person.status is not Status.ACTIVE:
        assert person.public_mailbox() is None


def _must_follow(change: Change, name: str) -> None:
    before, after = change.before, change.after
    assert bool(change.fields()) is (before != after), "what differs is named, and nothing else"
    if before.reserved and name not in ("cancel_reservation", "die"):
        assert after.reserved, "a reservation is lost only with the identity"
        assert after.reservation_time == before.reservation_time
    switched = {before.public_mailbox(), after.public_mailbox()}
    if len(switched) == 1:
        assert change.operators_to_tell() == ()
    else:
        assert set(change.operators_to_tell()) == {each.operator for each in switched if each}
    if name in ("reserve", "cancel_reservation", "delete", "die", "take_over"):
        assert change.newly_chosen() is None, "only a choice is confirmed by a message"


def test_registering_sets_the_values_given_and_their_times() -> None:
    registered = NEVER.register(NOW, {EMAIL: "ola@example.com", MOBILE: "+4791234567"}, Language.NN)
    assert registered == Person(
        identifier=PersonIdentifier(people.OLA),
        status=Status.ACTIVE,
        language=Language.NN,
        language_updated=NOW,
        contacts={
            EMAIL: ContactPoint(value="ola@example.com", updated=NOW),
            MOBILE: ContactPoint(value="+4791234567", updated=NOW),
        },
    )


def test_the_same_value_again_counts_as_confirmed_and_not_as_updated() -> None:
    again = REACHED.update_contact(LATER, {EMAIL: "ola@example.com"})
    assert again.contacts[EMAIL] == ContactPoint(value="ola@example.com", updated=NOW, confirmed=LATER)
    assert again.contacts[MOBILE] == REACHED.contacts[MOBILE]
    assert Change(REACHED, again).fields() == ("email",)


def test_a_changed_value_loses_what_was_confirmed_and_validated() -> None:
    proved = ContactPoint(value="ola@example.com", updated=NOW, confirmed=NOW, validated=NOW)
    person = replace(REACHED, contacts={EMAIL: proved})
    changed = person.update_contact(LATER, {EMAIL: "kari@example.com"})
    assert changed.contacts == {EMAIL: ContactPoint(value="kari@example.com", updated=LATER)}


def test_confirming_confirms_every_value_and_keeps_what_was_validated() -> None:
    proved = ContactPoint(value="+4791234567", updated=NOW, validated=NOW)
    confirmed = replace(REACHED, contacts={**REACHED.contacts, MOBILE: proved}).confirm_contact(LATER)
    assert confirmed.contacts == {
        EMAIL: ContactPoint(value="ola@example.com", updated=NOW, confirmed=LATER),
        MOBILE: ContactPoint(value="+4791234567", updated=NOW, confirmed=LATER, validated=NOW),
    }


def test_a_proved_value_is_validated_and_keeps_its_other_times_and_the_other_value_is_not() -> None:
    proved = REACHED.validate_contact(LATER, MOBILE)
    assert proved.contacts == {
        EMAIL: REACHED.contacts[EMAIL],
        MOBILE: ContactPoint(value="+4791234567", updated=NOW, validated=LATER),
    }
    assert Change(REACHED, proved).fields() == ("mobile",)
    with pytest.raises(Refusal) as refused:
        REACHED.update_contact(NOW, {EMAIL: None}).validate_contact(LATER, EMAIL)
    assert refused.value.reason is Reason.CONTACT_MISSING


def test_removing_the_last_value_leaves_an_entry_without_contact_and_the_choice() -> None:
    silent = CHOSEN.update_contact(LATER, {EMAIL: None, MOBILE: None})
    assert (silent.status, silent.contacts, silent.chosen) == (Status.ACTIVE, {}, DIGIPOST)


def test_reserving_withholds_the_mailbox_and_cancelling_gives_it_back() -> None:
    assert RESERVED.public_mailbox() is None
    assert (RESERVED.mailboxes, RESERVED.chosen) == (CHOSEN.mailboxes, DIGIPOST)
    cancelled = RESERVED.cancel_reservation(LATER)
    assert cancelled.public_mailbox() == AT_DIGIPOST
    assert cancelled.reservation_time == LATER
    assert Change(CHOSEN, RESERVED).operators_to_tell() == (DIGIPOST,)
    assert Change(RESERVED, cancelled).operators_to_tell() == (DIGIPOST,)


def test_whoever_is_not_registered_may_reserve() -> None:
    reserved = NEVER.reserve(NOW)
    assert (reserved.status, reserved.reserved, reserved.reservation_time) == (Status.ACTIVE, True, NOW)


@pytest.mark.parametrize(
    "unchanged",
    [
        RESERVED.reserve(LATER),
        RESERVED.create_mailbox(AT_DIGIPOST),
        RESERVED.update_contact(LATER, {}),
        RESERVED.set_language(LATER, Language.NN),
    ],
)
def test_a_verb_that_changes_nothing_returns_an_equal_person(unchanged: Person) -> None:
    assert unchanged == RESERVED
    assert Change(RESERVED, unchanged).fields() == ()


def test_a_deleted_person_is_a_tombstone_and_returns_without_a_mailbox() -> None:
    deleted = replace(CHOSEN, change_number=7).delete(DeletionReason.OWN_CHOICE)
    assert deleted == Person(
        identifier=NEVER.identifier,
        status=Status.DELETED,
        change_number=7,
        deletion_reason=DeletionReason.OWN_CHOICE,
    )
    assert Change(CHOSEN, deleted).operators_to_tell() == (DIGIPOST,)
    back = deleted.register(LATER, {EMAIL: "ola@example.com"}, None)
    assert (back.status, back.mailboxes, back.chosen) == (Status.ACTIVE, (), None)
    assert back.deletion_reason is None
    assert (back.language, back.language_updated) == (None, None)


@pytest.mark.parametrize("reason", IDENTITY_GOES_ON)
def test_a_reserved_person_who_is_deleted_keeps_the_reservation_and_nothing_else(
    reason: DeletionReason,
) -> None:
    assert RESERVED.delete(reason) == Person(
        identifier=NEVER.identifier, status=Status.ACTIVE, reserved=True, reservation_time=NOW
    )


@pytest.mark.parametrize("reason", IDENTITY_ENDS)
def test_a_reservation_ends_with_the_identity(reason: DeletionReason) -> None:
    assert RESERVED.delete(reason) == Person(
        identifier=NEVER.identifier, status=Status.DELETED, deletion_reason=reason
    )


def test_every_reason_ends_the_identity_or_does_not() -> None:
    assert sorted((*IDENTITY_ENDS, *IDENTITY_GOES_ON)) == sorted(DeletionReason)


def test_what_is_taken_over_is_no_new_choice_and_no_operator_has_followed_it_yet() -> None:
    refused = replace(AT_EBOKS, operator_state=OperatorState.REFUSED)
    old = replace(CHOSEN, mailboxes=(AT_DIGIPOST, refused))
    arrived = Change(Person(identifier=EARLIER), Person(identifier=EARLIER).take_over(old), old.identifier)

    assert arrived.operators_to_tell() == (DIGIPOST,)
    assert arrived.newly_chosen() is None
    assert {box.operator_state for box in arrived.after.mailboxes} == {OperatorState.IN_STEP}
    names = ("status", "language", "mailboxes", "chosen", "email", "mobile", "identifier")
    assert arrived.fields() == names


def test_a_switch_makes_the_former_inactive_and_both_operators_learn_of_it() -> None:
    switched = CHOSEN.choose_mailbox(EBOKS)
    assert (switched.chosen, switched.mailboxes) == (EBOKS, CHOSEN.mailboxes)
    change = Change(CHOSEN, switched)
    assert change.operators_to_tell() == tuple(sorted([DIGIPOST, EBOKS]))
    assert change.newly_chosen() == EBOKS
    assert change.fields() == ("chosen",)


def test_deleting_the_chosen_mailbox_empties_the_choice_and_deleting_the_other_does_not() -> None:
    assert CHOSEN.delete_mailbox(DIGIPOST).chosen is None
    assert CHOSEN.delete_mailbox(DIGIPOST).mailboxes == (AT_EBOKS,)
    assert CHOSEN.delete_mailbox(EBOKS).chosen == DIGIPOST


def test_how_far_the_operator_has_followed_is_no_difference_between_mailboxes() -> None:
    refused = replace(AT_DIGIPOST, operator_state=OperatorState.REFUSED)
    assert replace(BOXED, mailboxes=(refused,)).create_mailbox(AT_DIGIPOST).mailboxes == (refused,)
