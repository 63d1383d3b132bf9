"""What a public body is told about a person, by the person's state and the body's purpose."""

from collections.abc import Mapping
from dataclasses import dataclass
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
    """What a person's entry means to a public body now.

    expired: the contact points that have expired, given or left out.
    left_out: the contact points that are not given.
    """

    notifiable: bool
    letter_route: LetterRoute
    expired: tuple[ContactKind, ...]
    left_out: tuple[ContactKind, ...]


def standing_of(person: Person) -> LetterRoute:
    """Which way letters to the person go as long as contact info has not expired."""
    return standing(person.status, reserved=person.reserved, has_mailbox=person.chosen is not None)


def standing(status: Status, *, reserved: bool, has_mailbox: bool) -> LetterRoute:
    """The same of what it depends on.

    has_mailbox: whether one is chosen.
    """
    if status is not Status.ACTIVE:
        return LetterRoute[status.name]
    if reserved:
        return LetterRoute.RESERVED
    return LetterRoute.MAILBOX_CHOSEN if has_mailbox else LetterRoute.NO_MAILBOX


def look_up(standing: LetterRoute, is_expired: Mapping[ContactKind, bool], purpose: Purpose) -> LookUp:
    """Tell what the person's entry means.

    is_expired: of each contact point that the person has.

    Expired values may not be used for notices (eForvaltningsforskriften § 32 second
    paragraph), so Purpose.NOTICE leaves them out; the purpose changes nothing else.
    """
    expired = tuple(kind for kind in ContactKind if is_expired.get(kind))
    notifiable = standing in (LetterRoute.NO_MAILBOX, LetterRoute.MAILBOX_CHOSEN) and len(expired) < len(
        is_expired
    )
    route = standing
    if standing in (LetterRoute.NO_MAILBOX, LetterRoute.MAILBOX_CHOSEN) and not notifiable:
        route = LetterRoute.NOT_NOTIFIABLE
    return LookUp(notifiable, route, expired, expired if purpose is Purpose.NOTICE else ())
