"""Messages to people: what each kind is for, which follow from a change, and whether one that is due
is still to be sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from server.domain.change import Change
from server.domain.contact import ContactKind, parse_mobile
from server.domain.errors import InvalidValue
from server.domain.identifiers import OrganisationNumber
from server.domain.person import Language, Person, Status
from server.domain.rules import hour_in_norway


class Channel(StrEnum):
    """How a message reaches people."""

    SMS = "SMS"
    EMAIL = "EMAIL"
    LETTER = "LETTER"


class MessageKind(StrEnum):
    """What a message says."""

    MAILBOX_CHOSEN = "MAILBOX_CHOSEN"
    VERIFICATION_CODE = "VERIFICATION_CODE"
    CONTACT_CHANGED = "CONTACT_CHANGED"
    CONTACT_REMINDER = "CONTACT_REMINDER"
    CONTACT_EXPIRED = "CONTACT_EXPIRED"
    SHARED_CONTACT_NOTICE = "SHARED_CONTACT_NOTICE"
    SHARED_CONTACT_LETTER = "SHARED_CONTACT_LETTER"


# How long each is news; a message that could not go by then is not sent. MAILBOX_CHOSEN: a weekend
# without a gateway. A code is good for ten minutes, what comes later only confuses.
VALID_FOR: Mapping[MessageKind, timedelta] = {
    MessageKind.MAILBOX_CHOSEN: timedelta(days=3),
    MessageKind.VERIFICATION_CODE: timedelta(minutes=10),
    MessageKind.CONTACT_CHANGED: timedelta(days=7),
    MessageKind.CONTACT_REMINDER: timedelta(days=14),
    MessageKind.CONTACT_EXPIRED: timedelta(days=14),
    MessageKind.SHARED_CONTACT_NOTICE: timedelta(days=14),
    # None is written later before the deadline, so none goes after it (server/domain/campaign.py).
    MessageKind.SHARED_CONTACT_LETTER: timedelta(days=7),
}

# What somebody waits for, or must know at once, also comes by night.
COMES_AT_ANY_HOUR = frozenset(
    {MessageKind.MAILBOX_CHOSEN, MessageKind.VERIFICATION_CODE, MessageKind.CONTACT_CHANGED}
)

# Each tells of an event of its own; of the others a later one of the kind takes the place.
STANDS_BESIDE_LATER = frozenset({MessageKind.CONTACT_CHANGED, MessageKind.SHARED_CONTACT_NOTICE})

# Go to the address that they were written for, not to the one of the moment.
OF_ONE_ADDRESS = frozenset(
    {MessageKind.VERIFICATION_CODE, MessageKind.CONTACT_CHANGED, MessageKind.SHARED_CONTACT_NOTICE}
)

# Codes are limited by themselves (server/domain/verification.py); a letter is one of its campaign's, and
# who gets none is not deleted.
NOT_COUNTED_BY_DAY = frozenset({MessageKind.VERIFICATION_CODE, MessageKind.SHARED_CONTACT_LETTER})

CONTACT_OF: Mapping[Channel, ContactKind] = {
    Channel.SMS: ContactKind.MOBILE,
    Channel.EMAIL: ContactKind.EMAIL,
}
CHANNEL_TO: Mapping[ContactKind, Channel] = {kind: channel for channel, kind in CONTACT_OF.items()}

NO_CONTACT = "NO_CONTACT"
EXPIRED = "EXPIRED"
DAILY_LIMIT = "DAILY_LIMIT"
NUMBER_NOT_ALLOWED = "NUMBER_NOT_ALLOWED"
NOT_WANTED = "NOT_WANTED"


@dataclass(frozen=True, kw_only=True)
class NewMessage:
    """A message to be written.

    recipient: of a kind in OF_ONE_ADDRESS; else it is read when the message is sent.
    operator: whom a choice is of.
    contact_kind, deadline, case_count: what the text names (delivery_service.proto, Message).
    suppressed: why it is only recorded and not sent.
    """

    kind: MessageKind
    channel: Channel
    language: Language
    recipient: str | None = None
    operator: OrganisationNumber | None = None
    contact_kind: ContactKind | None = None
    deadline: date | None = None
    case_count: int | None = None
    suppressed: str | None = None


@dataclass(frozen=True)
class Due:
    """A message whose time has come, as it was written.

    outdated: whether a later one of its kind, about the same contact point, was written since.
    sent_today: how many messages the person was sent in the last 24 hours.
    """

    kind: MessageKind
    channel: Channel
    recipient: str | None
    contact_kind: ContactKind | None
    created: datetime
    expires: datetime
    outdated: bool
    sent_today: int


@dataclass(frozen=True)
class Send:
    """It is to be sent to this address or number; to None by letter."""

    recipient: str | None


@dataclass(frozen=True)
class Move:
    """It is to be sent on the other channel."""

    channel: Channel


@dataclass(frozen=True)
class Suppress:
    """It is not to be sent."""

    reason: str


@dataclass(frozen=True)
class Supersede:
    """A later message has taken its place."""


def messages_of(change: Change) -> list[NewMessage]:
    """What people are told of a change: the choice of a mailbox, and at a former address or number
    that it was replaced or removed. Who is deleted, or got another identifier, is told nothing."""
    if change.takes_over or change.leaves_nothing():
        return []
    language = change.after.language or Language.NB
    told = [
        NewMessage(
            kind=MessageKind.CONTACT_CHANGED,
            channel=CHANNEL_TO[kind],
            language=language,
            recipient=before.value,
            contact_kind=kind,
        )
        for kind, before in change.before.contacts.items()
        if (after := change.after.contacts.get(kind)) is None or after.value != before.value
    ]
    chosen = change.newly_chosen()
    if chosen:
        told.append(
            NewMessage(
                kind=MessageKind.MAILBOX_CHOSEN,
                channel=channel_to(change.after, first=Channel.SMS) or Channel.SMS,
                language=language,
                operator=chosen,
                suppressed=None if change.after.contacts else NO_CONTACT,
            )
        )
    return told


def channel_to(person: Person, *, first: Channel) -> Channel | None:
    """The channel by which the person can be reached, the first where that is one; None for none."""
    second = Channel.EMAIL if first is Channel.SMS else Channel.SMS
    return next((each for each in (first, second) if CONTACT_OF[each] in person.contacts), None)


def judge(
    due: Due, person: Person | None, now: datetime, most_in_a_day: int
) -> Send | Move | Suppress | Supersede:
    """What becomes of a message whose time has come.

    person: to whom it is; None where it is to an organisation.
    most_in_a_day: how many messages a person is sent in 24 hours.
    """
    if due.outdated and due.kind not in STANDS_BESIDE_LATER:
        return Supersede()
    if due.expires <= now:
        return Suppress(EXPIRED)
    if person and not _is_wanted(due, person):
        return Suppress(NOT_WANTED)
    if due.sent_today >= most_in_a_day and due.kind not in NOT_COUNTED_BY_DAY:
        return Suppress(DAILY_LIMIT)
    if due.channel is Channel.LETTER:
        return Send(None)
    recipient = due.recipient
    if person and due.kind not in OF_ONE_ADDRESS:
        channel = channel_to(person, first=due.channel)
        if channel is None:
            return Suppress(NO_CONTACT)
        if channel is not due.channel:
            return Move(channel)
        recipient = person.contacts[CONTACT_OF[channel]].value
    if recipient is None:
        return Suppress(NO_CONTACT)
    if due.channel is Channel.SMS and not _may_be_called(recipient):
        return Suppress(NUMBER_NOT_ALLOWED)
    return Send(recipient)


def is_quiet(now: datetime, quiet_hours: tuple[int, int] | None) -> bool:
    """Whether only what cannot wait is sent now.

    quiet_hours: from that hour to before this one, by Norway's clocks, such as (21, 8).
    """
    if quiet_hours is None:
        return False
    begins, ends = quiet_hours
    hour = hour_in_norway(now)
    return begins <= hour < ends if begins < ends else hour >= begins or hour < ends


def _is_wanted(due: Due, person: Person) -> bool:
    match due.kind:
        case MessageKind.VERIFICATION_CODE:
            point = person.contacts.get(CONTACT_OF[due.channel])
            return point is not None and point.value == due.recipient
        case MessageKind.CONTACT_REMINDER | MessageKind.CONTACT_EXPIRED:
            asked = person.status is Status.ACTIVE and not person.reserved
            return asked and not any(point.last_seen > due.created for point in person.contacts.values())
        case MessageKind.SHARED_CONTACT_LETTER:
            kinds = [due.contact_kind] if due.contact_kind else list(ContactKind)
            return any(point.shared for kind, point in person.contacts.items() if kind in kinds)
        case _:
            return True


def _may_be_called(number: str) -> bool:
    try:
        parse_mobile(number)
    except InvalidValue:
        return False
    return True
