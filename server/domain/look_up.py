"""What a public body is told about a person, by the person's state and the body's purpose."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto

from server.domain.contact import ContactKind
from server.domain.person import Person, Status


class Purpose(Enum):
    """What the contact info will be used for."""

    NOTICE = auto()
    SERVICE_MESSAGE = auto()


class LetterRoute(Enum):
    """Which way a letter goes, and why."""

    MAILBOX_CHOSEN = auto()
    NOT_REGISTERED = auto()
    DELETED = auto()
    RESERVED = auto()
    NOT_NOTIFIABLE = auto()
    NO_MAILBOX = auto()


@dataclass(frozen=True)
class LookUp:
    """The answer for one person.

    person: with expired contact points left out for Purpose.NOTICE.
    expired: the contact points that have expired, given or left out.
    """

    person: Person
    notifiable: bool
    letter_route: LetterRoute
    expired: tuple[ContactKind, ...]


def look_up(person: Person, purpose: Purpose, now: datetime) -> LookUp:
    """Tell what the person's entry means to a public body now.

    Expired values may not be used for notices (eForvaltningsforskriften § 32 second
    paragraph), so Purpose.NOTICE leaves them out; the purpose changes nothing else.
    """
    expired = tuple(kind for kind, point in person.contacts.items() if point.is_expired(now))
    notifiable = (
        person.status is Status.ACTIVE and not person.reserved and len(expired) < len(person.contacts)
    )
    shown = person
    if purpose is Purpose.NOTICE:
        usable = {kind: point for kind, point in person.contacts.items() if kind not in expired}
        shown = replace(person, contacts=usable)
    return LookUp(shown, notifiable, _letter_route(person, notifiable), expired)


def _letter_route(person: Person, notifiable: bool) -> LetterRoute:
    if person.status is not Status.ACTIVE:
        return LetterRoute[person.status.name]
    if person.reserved:
        return LetterRoute.RESERVED
    if not notifiable:
        return LetterRoute.NOT_NOTIFIABLE
    if person.public_mailbox() is None:
        return LetterRoute.NO_MAILBOX
    return LetterRoute.MAILBOX_CHOSEN
