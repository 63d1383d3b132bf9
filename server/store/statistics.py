"""Numbers of persons and mailboxes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from psycopg.types.multirange import TimestamptzMultirange
from psycopg.types.range import TimestamptzRange
from sqlalchemy import text

from server.domain.identifiers import OrganisationNumber
from server.domain.person import Language, Status
from server.domain.rules import STALE_AFTER_MONTHS, months_later
from server.store.transaction import Reader


@dataclass(frozen=True, kw_only=True)
class PersonCounts:
    """Numbers of persons: of ACTIVE ones, reserved among them, but for deleted_count.

    contact: e-mail, mobile or both. expired: all the contact info that the person has.
    """

    active_count: int
    deleted_count: int
    with_email_count: int
    with_mobile_count: int
    with_email_and_mobile_count: int
    with_contact_count: int
    reserved_with_contact_count: int
    reserved_without_contact_count: int
    expired_count: int
    notifiable_count: int
    shared_email_count: int
    shared_mobile_count: int


@dataclass(frozen=True)
class MailboxCounts:
    """Mailboxes at an operator, by whether they receive public mail."""

    operator: OrganisationNumber
    operator_name: str
    active_count: int
    inactive_count: int


@dataclass(frozen=True)
class Statistics:
    """All numbers. languages: ACTIVE persons by language; None for those who chose none."""

    persons: PersonCounts
    languages: Mapping[Language | None, int]
    mailboxes: tuple[MailboxCounts, ...]


_COUNT_PERSONS = text("""
    SELECT status, reserved, language,
        count(*) AS persons,
        count(email) AS emails,
        count(mobile) AS mobiles,
        count(*) FILTER (WHERE email IS NOT NULL AND mobile IS NOT NULL) AS both,
        count(*) FILTER (WHERE email_shared) AS shared_emails,
        count(*) FILTER (WHERE mobile_shared) AS shared_mobiles,
        count(*) FILTER (
            WHERE (email IS NOT NULL OR mobile IS NOT NULL)
            AND (email IS NULL
                OR greatest(email_updated_time, email_confirmed_time, email_validated_time) <@ :expired)
            AND (mobile IS NULL
                OR greatest(mobile_updated_time, mobile_confirmed_time, mobile_validated_time) <@ :expired)
        ) AS expired
    FROM person GROUP BY status, reserved, language
""")

_COUNT_MAILBOXES = text("""
    SELECT operator.organisation_number, operator.name,
        count(mailbox.person_id) FILTER (WHERE chosen AND reserved.id IS NULL) AS active,
        count(mailbox.person_id) FILTER (WHERE NOT chosen OR reserved.id IS NOT NULL) AS inactive
    FROM mailbox_operator AS operator
    LEFT JOIN mailbox ON mailbox.operator = operator.organisation_number
    LEFT JOIN (SELECT id FROM person WHERE reserved) AS reserved ON reserved.id = mailbox.person_id
    GROUP BY operator.organisation_number ORDER BY operator.organisation_number
""")

# What any month lacks of 31 days and an hour of summer time are less than this.
_UNSURE = timedelta(days=5)
_HOUR = timedelta(hours=1)


def count_all(reader: Reader, now: datetime) -> Statistics:
    """Count; of one moment where the reader reads one. Reads every row.

    now: by which is judged what has expired.
    """
    counted: Counter[str] = Counter()
    languages: dict[Language | None, int] = dict.fromkeys((*Language, None), 0)
    for row in reader.connection.execute(_COUNT_PERSONS, {"expired": expired_times(now)}):
        if row.status != Status.ACTIVE.value:
            counted.update(deleted_count=row.persons)
            continue
        languages[Language(row.language) if row.language else None] += row.persons
        contact = row.emails + row.mobiles - row.both
        counted.update(
            active_count=row.persons,
            with_email_count=row.emails,
            with_mobile_count=row.mobiles,
            with_email_and_mobile_count=row.both,
            with_contact_count=contact,
            expired_count=row.expired,
            shared_email_count=row.shared_emails,
            shared_mobile_count=row.shared_mobiles,
        )
        if row.reserved:
            counted.update(
                reserved_with_contact_count=contact, reserved_without_contact_count=row.persons - contact
            )
        else:
            counted.update(notifiable_count=contact - row.expired)
    persons = PersonCounts(**{field.name: counted[field.name] for field in fields(PersonCounts)})
    mailboxes = tuple(
        MailboxCounts(row.organisation_number, row.name, row.active, row.inactive)
        for row in reader.connection.execute(_COUNT_MAILBOXES)
    )
    return Statistics(persons, languages, mailboxes)


def expired_times(now: datetime) -> TimestamptzMultirange:
    """The times such that a value last heard of then has expired now, as ContactPoint.is_expired judges.

    Not all before one time: the last days of some months stay usable until the same day, and
    summer time begins and ends. So the rule itself is asked, hour by hour where it is not sure:
    within an hour of UTC it moves with the time, since Norway's days and its summer time
    begin on the hour.
    """
    about = months_later(now, -STALE_AFTER_MONTHS).replace(minute=0, second=0, microsecond=0)
    hour, end = about - _UNSURE, about + _UNSURE
    ranges = [TimestamptzRange(None, hour)]
    while hour < end:
        expired = min(now - months_later(hour, STALE_AFTER_MONTHS), _HOUR)
        if expired > timedelta(0):
            ranges.append(TimestamptzRange(hour, hour + expired))
        hour += _HOUR
    return TimestamptzMultirange(ranges)
