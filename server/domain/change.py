"""What a verb changed about a person, and what follows from it."""

from dataclasses import dataclass

from server.domain.contact import ContactKind
from server.domain.identifiers import OrganisationNumber, PersonIdentifier
from server.domain.person import Person, Status


@dataclass(frozen=True)
class Change:
    """A person before and after a verb.

    takes_over: the earlier identifier, where the person took over all that was there.
    tells_again: an operator that must be told of the choice again, though that did not change.
    """

    before: Person
    after: Person
    takes_over: PersonIdentifier | None = None
    tells_again: OrganisationNumber | None = None

    def fields(self) -> tuple[str, ...]:
        """Names of what changed, for the history."""
        names = ("status", "reserved", "language", "mailboxes", "chosen")
        changed = [name for name in names if getattr(self.before, name) != getattr(self.after, name)]
        for kind in ContactKind:
            before, after = self.before.contacts.get(kind), self.after.contacts.get(kind)
            if before != after:
                changed.append(kind)
            elif before and after and before.shared != after.shared:
                changed.append(f"{kind}_shared")
        if self.takes_over:
            changed.append("identifier")
        if self.tells_again:
            changed.append("operator_side")
        return tuple(changed)

    def operators_to_tell(self) -> tuple[OrganisationNumber, ...]:
        """Operators whose side must be switched on or off now, in order."""
        mailboxes = (self.before.public_mailbox(), self.after.public_mailbox())
        before, after = (mailbox.operator if mailbox else None for mailbox in mailboxes)
        told = {self.tells_again, *(() if before == after else (before, after))}
        return tuple(sorted(filter(None, told)))

    def operators_concerned(self) -> tuple[OrganisationNumber, ...]:
        """Operators that see a change of what the register holds of their mailbox, in order."""
        told = self.operators_to_tell()
        boxes = (*self.before.mailboxes, *self.after.mailboxes)
        return tuple(
            sorted(
                operator
                for operator in {box.operator for box in boxes}
                if operator in told or self.before.mailbox_at(operator) != self.after.mailbox_at(operator)
            )
        )

    def leaves_nothing(self) -> bool:
        """Whether nothing is left of the person but the tombstone or the reservation."""
        after = self.after
        bare = not (after.contacts or after.mailboxes or after.language)
        return after.status is Status.DELETED or (after.reserved and bare)

    def withdraws_account_request(self) -> bool:
        """Whether an account that an operator was asked to open is wanted no more."""
        before, after = self.before, self.after
        return (
            (before.status is Status.ACTIVE and after.status is not Status.ACTIVE)
            or (after.reserved and not before.reserved)
            or (before.has_every_contact() and not after.has_every_contact())
            or after.chosen not in (None, before.chosen)
        )

    def newly_chosen(self) -> OrganisationNumber | None:
        """The operator that the person chose with this change; the person is told of it."""
        if self.takes_over or self.after.chosen == self.before.chosen:
            return None
        return self.after.chosen
