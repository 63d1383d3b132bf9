"""A person in the register, and every verb that changes one.

A verb takes the moment from its caller and returns the person as changed, or the same
person where nothing changed, or raises Refusal. It never changes a person in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Self

from server.domain.contact import ContactKind, ContactPoint
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier


class Status(StrEnum):
    """Where a person stands in the register."""

    ACTIVE = "ACTIVE"
    DELETED = "DELETED"
    NOT_REGISTERED = "NOT_REGISTERED"


class Language(StrEnum):
    """Language of messages."""

    NB = "nb"
    NN = "nn"
    EN = "en"
    SE = "se"


class OperatorState(StrEnum):
    """How far a mailbox operator has followed the register."""

    PENDING = "PENDING"
    IN_STEP = "IN_STEP"
    NO_ACCOUNT = "NO_ACCOUNT"
    REFUSED = "REFUSED"


class DeletionReason(StrEnum):
    """Why a person was deleted."""

    OWN_CHOICE = "OWN_CHOICE"
    DEAD = "DEAD"
    EXPIRED_IDENTITY = "EXPIRED_IDENTITY"
    NEW_IDENTITY = "NEW_IDENTITY"
    DISAPPEARED = "DISAPPEARED"
    SHARED_CONTACT = "SHARED_CONTACT"


_IDENTITY_ENDS = (DeletionReason.DEAD, DeletionReason.EXPIRED_IDENTITY, DeletionReason.NEW_IDENTITY)


@dataclass(frozen=True, kw_only=True)
class Mailbox:
    """A mailbox at one operator.

    Two are equal if the operator reported the same; its state of following does not count.
    certificate: the person's own, X.509 in DER.
    """

    operator: OrganisationNumber
    address: MailboxAddress
    certificate: bytes | None = None
    operator_state: OperatorState = field(default=OperatorState.IN_STEP, compare=False)


@dataclass(frozen=True, kw_only=True)
class Person:
    """One entry.

    chosen: the operator whose mailbox receives public mail, unless reserved.
    change_number: of the last change; 0 for a person who was never registered.
    """

    identifier: PersonIdentifier
    status: Status = Status.NOT_REGISTERED
    reserved: bool = False
    reservation_time: datetime | None = None
    language: Language | None = None
    language_updated: datetime | None = None
    contacts: Mapping[ContactKind, ContactPoint] = field(default_factory=dict)
    mailboxes: tuple[Mailbox, ...] = ()
    chosen: OrganisationNumber | None = None
    change_number: int = 0
    deletion_reason: DeletionReason | None = None

    # What is known

    def mailbox_at(self, operator: OrganisationNumber) -> Mailbox | None:
        """The person's mailbox at that operator, chosen or not."""
        return next((mailbox for mailbox in self.mailboxes if mailbox.operator == operator), None)

    def public_mailbox(self) -> Mailbox | None:
        """The mailbox that receives public mail: the chosen one, unless reserved."""
        if self.status is not Status.ACTIVE or self.reserved or self.chosen is None:
            return None
        return self.mailbox_at(self.chosen)

    def has_every_contact(self) -> bool:
        """Whether both e-mail and mobile are there."""
        return len(self.contacts) == len(ContactKind)

    # The citizen's verbs

    def register(self, now: datetime, values: Mapping[ContactKind, str], language: Language | None) -> Self:
        """Enter the person at first log-in, or anew after deletion.

        Raises Refusal: ALREADY_REGISTERED.
        """
        if self.status is Status.ACTIVE:
            raise Refusal(Reason.ALREADY_REGISTERED)
        return replace(
            self,
            status=Status.ACTIVE,
            deletion_reason=None,
            contacts={kind: ContactPoint(value=value, updated=now) for kind, value in values.items()},
            language=language,
            language_updated=now if language else None,
        )

    def update_contact(self, now: datetime, values: Mapping[ContactKind, str | None]) -> Self:
        """Set the named contact points; None removes one.

        The same value again counts as confirmed, not as updated. A changed value loses what
        was confirmed and validated.

        Raises Refusal: PERSON_NOT_FOUND.
        """
        self._must_be_active()
        contacts = dict(self.contacts)
        for kind, value in values.items():
            present = contacts.pop(kind, None)
            if present and present.value == value:
                contacts[kind] = replace(present, confirmed=now)
            elif value is not None:
                contacts[kind] = ContactPoint(value=value, updated=now)
        return replace(self, contacts=contacts)

    def confirm_contact(self, now: datetime) -> Self:
        """Confirm every contact point present.

        Raises Refusal: PERSON_NOT_FOUND or CONTACT_MISSING.
        """
        self._must_be_active()
        self._must_have_contact()
        return self.update_contact(now, {kind: point.value for kind, point in self.contacts.items()})

    def validate_contact(self, now: datetime, kind: ContactKind) -> Self:
        """Note that a one-time code proved the contact point.

        Raises Refusal: PERSON_NOT_FOUND, or CONTACT_MISSING where there is no such contact point.
        """
        self.must_have_contact_point(kind)
        proved = replace(self.contacts[kind], validated=now)
        return replace(self, contacts={**self.contacts, kind: proved})

    def must_have_contact_point(self, kind: ContactKind) -> None:
        """Pass if the contact point is there, such as for a code to be sent to.

        Raises Refusal: PERSON_NOT_FOUND or CONTACT_MISSING.
        """
        self._must_be_active()
        if kind not in self.contacts:
            raise Refusal(Reason.CONTACT_MISSING)

    def set_language(self, now: datetime, language: Language) -> Self:
        """Choose the language of messages.

        Raises Refusal: PERSON_NOT_FOUND.
        """
        self._must_be_active()
        if self.language is language:
            return self
        return replace(self, language=language, language_updated=now)

    def reserve(self, now: datetime) -> Self:
        """Opt out of digital communication; open to anyone, also one not yet registered.

        The mailboxes and the choice stay, but are withheld.
        """
        if self.reserved:
            return self
        return replace(self, status=Status.ACTIVE, deletion_reason=None, reserved=True, reservation_time=now)

    def cancel_reservation(self, now: datetime) -> Self:
        """Opt in again.

        Raises Refusal: PERSON_NOT_FOUND.
        """
        self._must_be_active()
        if not self.reserved:
            return self
        return replace(self, reserved=False, reservation_time=now)

    def choose_mailbox(self, operator: OrganisationNumber) -> Self:
        """Choose, or switch to, the mailbox at that operator.

        Raises Refusal: PERSON_NOT_FOUND, RESERVED, NO_MAILBOX or CONTACT_MISSING.
        """
        self._must_be_active()
        self._must_not_be_reserved()
        if self.mailbox_at(operator) is None:
            raise Refusal(Reason.NO_MAILBOX)
        self._must_have_contact()
        return replace(self, chosen=operator)

    def may_request_account(self) -> None:
        """Pass if an operator may open an account for the person.

        Raises Refusal: PERSON_NOT_FOUND, RESERVED, or CONTACT_MISSING unless e-mail and mobile are there.
        """
        self._must_be_active()
        self._must_not_be_reserved()
        if not self.has_every_contact():
            raise Refusal(Reason.CONTACT_MISSING)

    def delete(self, reason: DeletionReason) -> Self:
        """Delete all but the tombstone; of a reserved person whose identity goes on, all but
        the reservation.

        Raises Refusal: PERSON_NOT_FOUND.
        """
        self._must_be_active()
        bare = type(self)(identifier=self.identifier, change_number=self.change_number)
        if self.reserved and reason not in _IDENTITY_ENDS:
            return replace(bare, status=Status.ACTIVE, reserved=True, reservation_time=self.reservation_time)
        return replace(bare, status=Status.DELETED, deletion_reason=reason)

    def take_over(self, other: Self) -> Self:
        """Become all that the other, an earlier identity of the same person, is.

        Raises Refusal: PERSON_NOT_FOUND where the other is not ACTIVE, ALREADY_REGISTERED
        where this one is.
        """
        other._must_be_active()
        if self.status is Status.ACTIVE:
            raise Refusal(Reason.ALREADY_REGISTERED)
        return replace(
            other,
            identifier=self.identifier,
            change_number=self.change_number,
            # What the operator heard, it heard of the other identifier.
            mailboxes=tuple(replace(box, operator_state=OperatorState.IN_STEP) for box in other.mailboxes),
        )

    # The mailbox operator's verbs

    def fill_choice(self, operator: OrganisationNumber) -> Self:
        """Choose the operator's mailbox where none is chosen; never take another's place.

        Raises Refusal: PERSON_NOT_FOUND, RESERVED, NO_MAILBOX, ALREADY_CHOSEN or CONTACT_MISSING.
        """
        self._must_be_active()
        self._must_not_be_reserved()
        if self.chosen is not None:
            raise Refusal(Reason.ALREADY_CHOSEN)
        return self.choose_mailbox(operator)

    def may_choose_mailbox(self) -> None:
        """Pass if an operator may fill the choice, its mailbox given.

        Raises Refusal: PERSON_NOT_FOUND, RESERVED, ALREADY_CHOSEN or CONTACT_MISSING.
        """
        self._must_be_active()
        self._must_not_be_reserved()
        if self.chosen is not None:
            raise Refusal(Reason.ALREADY_CHOSEN)
        self._must_have_contact()

    def create_mailbox(self, mailbox: Mailbox) -> Self:
        """Enter the operator's mailbox without choosing it.

        Raises Refusal: PERSON_NOT_FOUND, or MAILBOX_EXISTS where it stands with other data.
        """
        self._must_be_active()
        present = self.mailbox_at(mailbox.operator)
        if present is None:
            return replace(
                self,
                mailboxes=tuple(sorted((*self.mailboxes, mailbox), key=lambda each: each.operator)),
            )
        if present != mailbox:
            raise Refusal(Reason.MAILBOX_EXISTS)
        return self

    def create_and_choose_mailbox(self, mailbox: Mailbox) -> Self:
        """Enter the operator's mailbox and choose it, both or neither.

        Raises Refusal: what fill_choice and create_mailbox raise.
        """
        self._must_be_active()
        self._must_not_be_reserved()
        if self.chosen is not None and self.chosen != mailbox.operator:
            raise Refusal(Reason.ALREADY_CHOSEN)
        return self.create_mailbox(mailbox).fill_choice(mailbox.operator)

    def enter_opened_account(self, operator: OrganisationNumber, address: MailboxAddress) -> Self:
        """Enter the account that the operator opened, unless it reported the mailbox itself or the
        person is gone."""
        if self.status is not Status.ACTIVE or self.mailbox_at(operator):
            return self
        return self.create_mailbox(Mailbox(operator=operator, address=address))

    def update_mailbox(self, mailbox: Mailbox) -> Self:
        """Give the operator's mailbox another address or certificate; never bring one back that
        is gone.

        Raises Refusal: PERSON_NOT_FOUND or NO_MAILBOX.
        """
        self._must_be_active()
        present = self.mailbox_at(mailbox.operator)
        if present is None:
            raise Refusal(Reason.NO_MAILBOX)
        if present == mailbox:
            return self
        # How far the operator has followed the register is not the operator's to say.
        updated = replace(mailbox, operator_state=present.operator_state)
        return replace(self, mailboxes=tuple(updated if box is present else box for box in self.mailboxes))

    def delete_mailbox(self, operator: OrganisationNumber) -> Self:
        """Remove the operator's mailbox, and the choice if it was the chosen one.

        Raises Refusal: PERSON_NOT_FOUND or NO_MAILBOX.
        """
        self._must_be_active()
        if self.mailbox_at(operator) is None:
            raise Refusal(Reason.NO_MAILBOX)
        return replace(
            self,
            mailboxes=tuple(mailbox for mailbox in self.mailboxes if mailbox.operator != operator),
            chosen=None if self.chosen == operator else self.chosen,
        )

    def _must_be_active(self) -> None:
        if self.status is not Status.ACTIVE:
            raise Refusal(Reason.PERSON_NOT_FOUND)

    def _must_not_be_reserved(self) -> None:
        if self.reserved:
            raise Refusal(Reason.RESERVED)

    def _must_have_contact(self) -> None:
        if not self.contacts:
            raise Refusal(Reason.CONTACT_MISSING)
