"""In what an operator's side and the register differ, and who is right.

The register is right about the choice: who receives a person's public mail. The operator is right
about whether a mailbox exists, its address and certificate.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from server.domain.identifiers import MailboxAddress, OrganisationNumber
from server.domain.person import Mailbox, Person


class DifferenceKind(StrEnum):
    """As the contract names them."""

    RECEIVES_WRONGLY = "RECEIVES_WRONGLY"
    DOES_NOT_RECEIVE = "DOES_NOT_RECEIVE"
    MAILBOX_GONE = "MAILBOX_GONE"
    MAILBOX_MISSING = "MAILBOX_MISSING"
    ADDRESS = "ADDRESS"
    CERTIFICATE = "CERTIFICATE"

    @property
    def is_of_choice(self) -> bool:
        """Whether the register is right."""
        return self in (DifferenceKind.RECEIVES_WRONGLY, DifferenceKind.DOES_NOT_RECEIVE)


class NotRepairedReason(StrEnum):
    """Why a difference was left as it is, as the contract names it."""

    DRY_RUN = "DRY_RUN"
    CAP = "CAP"
    DELIVERY_REFUSED = "DELIVERY_REFUSED"
    NOT_ALLOWED = "NOT_ALLOWED"


@dataclass(frozen=True, kw_only=True)
class Account:
    """What an operator says of a person's account there; None for what it does not tell.

    certificate: the person's own, X.509 in DER; empty for none.
    """

    receives_public_mail: bool
    exists: bool | None = None
    address: MailboxAddress | None = None
    certificate: bytes | None = None


def differences(person: Person, operator: OrganisationNumber, account: Account) -> tuple[DifferenceKind, ...]:
    """In what the operator's account of the person differs from the register."""
    mailbox, chosen = person.mailbox_at(operator), person.public_mailbox()
    wanted = chosen is not None and chosen.operator == operator
    found = []
    if mailbox is None:
        if account.exists and account.address:
            found.append(DifferenceKind.MAILBOX_MISSING)
    elif account.exists is False:
        found.append(DifferenceKind.MAILBOX_GONE)
    else:
        if account.address is not None and account.address != mailbox.address:
            found.append(DifferenceKind.ADDRESS)
        if account.certificate is not None and (account.certificate or None) != mailbox.certificate:
            found.append(DifferenceKind.CERTIFICATE)
    if account.receives_public_mail and not wanted:
        found.append(DifferenceKind.RECEIVES_WRONGLY)
    # No operator can receive mail for an account that is gone.
    if wanted and not account.receives_public_mail and DifferenceKind.MAILBOX_GONE not in found:
        found.append(DifferenceKind.DOES_NOT_RECEIVE)
    return tuple(found)


def as_operator_says(person: Person, operator: OrganisationNumber, account: Account) -> Person:
    """The person with the operator's mailbox, its address and certificate as the operator has them.

    Raises Refusal: PERSON_NOT_FOUND.
    """
    present = person.mailbox_at(operator)
    if present is None:
        if not (account.exists and account.address):
            return person
        return person.create_mailbox(
            Mailbox(operator=operator, address=account.address, certificate=account.certificate or None)
        )
    if account.exists is False:
        return person.delete_mailbox(operator)
    told = account.certificate
    return person.update_mailbox(
        replace(
            present,
            address=account.address or present.address,
            certificate=present.certificate if told is None else told or None,
        )
    )
