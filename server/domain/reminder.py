"""Who is asked to confirm contact info, at which step, and by which way."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from server.domain.contact import ContactKind
from server.domain.message import Channel, MessageKind, channel_to
from server.domain.person import Person, Status
from server.domain.rules import date_in_norway, months_later


class NotReminded(StrEnum):
    """Why somebody gets no reminder."""

    DELETED = "DELETED"
    NO_CONTACT = "NO_CONTACT"
    FRESH = "FRESH"
    RESERVED = "RESERVED"
    ALREADY_REMINDED = "ALREADY_REMINDED"


class PointStep(NamedTuple):
    """A step that a contact point has passed.

    last_seen: when the person was last heard of there; a later word begins the steps anew.
    """

    kind: ContactKind
    months: int
    last_seen: datetime


@dataclass(frozen=True)
class Reminder:
    """One message to one person.

    step_months: the step that it is about; the others that it covers stand in `steps` too.
    deadline: the last day on which the contact point may be, or might have been, used for notices.
    """

    kind: MessageKind
    channel: Channel
    step_months: int
    deadline: date
    steps: tuple[PointStep, ...]


def reminder_of(
    person: Person, now: datetime, steps: Sequence[int], reminded: Collection[PointStep]
) -> Reminder | NotReminded:
    """The reminder that the person is to get now, or why none.

    Of several steps that were passed the last one counts. Of several contact points the one whose
    time ends first; the message stands for all. E-mail first, else SMS (Digdir: at 16 months; the
    citizens' page: at 18).

    steps: in months, rising.
    reminded: what the person was reminded of before.
    """
    if person.status is not Status.ACTIVE:
        return NotReminded.DELETED
    channel = channel_to(person, first=Channel.EMAIL)
    if channel is None:
        return NotReminded.NO_CONTACT
    passed = [
        PointStep(kind, months, point.last_seen)
        for kind, point in person.contacts.items()
        for months in steps
        # As a value may be used up to and including its last moment.
        if now > months_later(point.last_seen, months)
    ]
    if not passed:
        return NotReminded.FRESH
    if person.reserved:
        return NotReminded.RESERVED
    last = {each.kind: each for each in passed}
    due = [each for each in last.values() if each not in reminded]
    if not due:
        return NotReminded.ALREADY_REMINDED
    first = min(due, key=lambda each: person.contacts[each.kind].usable_until)
    is_expired = person.contacts[first.kind].is_expired(now)
    return Reminder(
        kind=MessageKind.CONTACT_EXPIRED if is_expired else MessageKind.CONTACT_REMINDER,
        channel=channel,
        step_months=first.months,
        deadline=date_in_norway(person.contacts[first.kind].usable_until),
        steps=tuple(each for each in passed if each not in reminded),
    )
