"""What a running campaign does by itself, each step a transaction that may be cut off and repeated."""

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import select, text, update

from server.domain.caller import CallerKind
from server.domain.campaign import LAST_LETTERS, CampaignState, is_over, may_still_write
from server.domain.change import Change
from server.domain.contact import ContactKind
from server.domain.identifiers import PersonIdentifier
from server.domain.message import Channel, MessageKind, NewMessage
from server.domain.person import DeletionReason, Language, Person, Status
from server.domain.rules import date_in_norway
from server.store.campaign_tables import campaign
from server.store.campaigns import IS_SHARED, STILL_SHARING, Notice, note_event, notices_to_write, set_state
from server.store.message_writes import Addressed, write_messages
from server.store.rows import Digest
from server.store.transaction import Transaction

# Whom one transaction writes to, and whom one deletes: other writes of these persons wait while it does.
_LETTERS = 500
_DELETIONS = 100

_REGISTER = "register"

_NOTE_NOTICES = text("""
    UPDATE campaign_case SET notice_id = told.notice_id
    FROM unnest(CAST(:case_ids AS bigint[]), CAST(:notice_ids AS uuid[])) AS told (case_id, notice_id)
    WHERE campaign_case.id = told.case_id
""")

_WITHOUT_LETTER = text(f"""
    SELECT person.id, language, array_agg(DISTINCT kind) AS kinds
    FROM campaign_person JOIN campaign_case ON campaign_case.id = case_id JOIN person ON person.id = person_id
    WHERE campaign_id = :id AND standing = 'OPEN' AND letter_id IS NULL AND {IS_SHARED}
    GROUP BY person.id ORDER BY person.id LIMIT :limit
""")  # noqa: S608 (a condition of this package)

_NOTE_LETTERS = text("""
    UPDATE campaign_person SET letter_id = written.letter_id
    FROM campaign_case, unnest(CAST(:person_ids AS bigint[]), CAST(:letter_ids AS uuid[]))
        AS written (person_id, letter_id)
    WHERE campaign_case.id = case_id AND campaign_id = :id
      AND campaign_person.person_id = written.person_id
""")

# A value that awaits its digest, written by code from before, is not taken for another one.
_NOTE_REPAIRED = text("""
    UPDATE campaign_person SET standing = 'REPAIRED', standing_date = :today
    FROM campaign_case, person
    WHERE campaign_case.id = case_id AND campaign_id = :id AND person.id = person_id
      AND standing = 'OPEN' AND CASE kind
        WHEN 'email' THEN email IS NULL OR email_digest <> digest
        ELSE mobile IS NULL OR mobile_digest <> digest END
    RETURNING person_id
""")

# Who took the value again in time has it again.
_NOTE_RELAPSED = text("""
    UPDATE campaign_person SET standing = 'OPEN', standing_date = :today
    FROM campaign_case, person
    WHERE campaign_case.id = case_id AND campaign_id = :id AND person.id = person_id
      AND standing = 'REPAIRED' AND status = 'ACTIVE'
      AND (kind = 'email' AND email_digest = digest OR kind = 'mobile' AND mobile_digest = digest)
""")

# All at once: were they deleted one by one, the last would share with nobody. Nobody is deleted whose
# letter did not go out, such as for want of an address.
_DOOM = text(f"""
    UPDATE campaign_person SET standing = 'DOOMED', standing_date = :today
    FROM ({STILL_SHARING}) AS sharing JOIN message ON message.id = sharing.letter_id
    WHERE campaign_person.case_id = sharing.case_id AND campaign_person.person_id = sharing.person_id
      AND message.state IN ('SENT', 'DELIVERED') AND message.sent_time < :sent_before
""")  # noqa: S608 (a query of this package)

_LEAVE_UNTOLD = text(f"""
    UPDATE campaign_person SET standing = 'EXEMPT', standing_date = :today
    FROM ({STILL_SHARING}) AS sharing
    WHERE campaign_person.case_id = sharing.case_id AND campaign_person.person_id = sharing.person_id
    RETURNING campaign_person.person_id
""")  # noqa: S608 (a query of this package)

_SETTLE = text("""
    UPDATE campaign_person SET standing = 'SETTLED', standing_date = :today
    FROM campaign_case WHERE campaign_case.id = case_id AND campaign_id = :id AND standing = 'OPEN'
""")

_COUNT_DOOMED = text("""
    SELECT count(DISTINCT person_id) FROM campaign_person JOIN campaign_case ON campaign_case.id = case_id
    WHERE campaign_id = :id AND standing IN ('DOOMED', 'DELETED')
""")

_SOME_DOOMED = text("""
    SELECT identifier, array_agg(kind) AS kinds, array_agg(digest) AS digests FROM (
        SELECT DISTINCT person_id FROM campaign_person JOIN campaign_case ON campaign_case.id = case_id
        WHERE campaign_id = :id AND standing = 'DOOMED' ORDER BY person_id LIMIT :limit
    ) AS chosen
    JOIN person ON person.id = person_id
    JOIN campaign_person USING (person_id) JOIN campaign_case ON campaign_case.id = case_id
    WHERE campaign_id = :id AND standing = 'DOOMED'
    GROUP BY identifier ORDER BY identifier
""")

_NOTE_FATE = text("""
    UPDATE campaign_person SET standing = :standing, standing_date = :today
    FROM campaign_case
    WHERE campaign_case.id = case_id AND campaign_id = :id AND standing = 'DOOMED'
      AND person_id = ANY(CAST(:person_ids AS bigint[]))
""")


@dataclass(frozen=True)
class Stopped:
    """A campaign that stopped at its cap."""

    campaign_id: int
    deletions: int
    max_deletions: int


def take_step(transaction: Transaction, digest: Digest, now: datetime) -> bool | Stopped:
    """Do the next thing of the campaign that runs, if one does; whether there may be more at once."""
    # Locked: of several servers one goes on, and the staff waits for the end of the step.
    row = transaction.connection.execute(
        select(campaign).where(campaign.c.state == CampaignState.RUNNING).with_for_update()
    ).one_or_none()
    if row is None:
        return False
    campaign_id: int = row.id
    if not is_over(row.deadline_date, now):
        _look_who_repaired(transaction, campaign_id, now)
        return _tell(transaction, row, now)
    if row.judged_time is None:
        _judge(transaction, campaign_id, row.deadline_date, now)
    deletions = transaction.connection.execute(_COUNT_DOOMED, {"id": campaign_id}).scalar_one()
    if deletions > row.max_deletions:
        set_state(transaction, campaign_id, CampaignState.STOPPED_AT_CAP, now)
        note_event(transaction, campaign_id, now, _REGISTER, "STOPPED_AT_CAP", deletions)
        return Stopped(campaign_id, deletions, row.max_deletions)
    return _delete_some(transaction, campaign_id, digest, now)


def _tell(transaction: Transaction, row: Any, now: datetime) -> bool:
    notices = notices_to_write(transaction, row.id)
    if notices:
        _write_notices(transaction, row, notices, now)
        return True
    if not may_still_write(row.deadline_date, now):
        return False
    execute = transaction.connection.execute
    persons = execute(_WITHOUT_LETTER, {"id": row.id, "limit": _LETTERS}).all()
    if not persons:
        return False
    letters = [
        Addressed(
            person.id,
            NewMessage(
                kind=MessageKind.SHARED_CONTACT_LETTER,
                channel=Channel.LETTER,
                language=Language(person.language) if person.language else Language.NB,
                contact_kind=ContactKind(person.kinds[0]) if len(person.kinds) == 1 else None,
                deadline=row.deadline_date,
            ),
            id=uuid.uuid4(),
        )
        for person in persons
    ]
    write_messages(transaction.run, letters)
    written = {
        "person_ids": [each.person_id for each in letters],
        "letter_ids": [each.id for each in letters],
    }
    execute(_NOTE_LETTERS, {"id": row.id, **written})
    note_event(transaction, row.id, now, _REGISTER, "LETTERS_WRITTEN", len(letters))
    return True


def _write_notices(transaction: Transaction, row: Any, notices: list[Notice], now: datetime) -> None:
    messages = [
        Addressed(
            None,
            NewMessage(
                kind=MessageKind.SHARED_CONTACT_NOTICE,
                channel=notice.channel,
                language=Language.NB,
                recipient=notice.recipient,
                deadline=row.deadline_date,
                case_count=len(notice.cases),
            ),
            id=uuid.uuid4(),
            synthetic=notice.synthetic,
        )
        for notice in notices
    ]
    write_messages(transaction.run, messages)
    told = [(case, each.id) for notice, each in zip(notices, messages, strict=True) for case in notice.cases]
    transaction.connection.execute(
        _NOTE_NOTICES, {"case_ids": [case for case, _ in told], "notice_ids": [each for _, each in told]}
    )
    note_event(transaction, row.id, now, _REGISTER, "NOTICES_WRITTEN", len(notices))


def _look_who_repaired(transaction: Transaction, campaign_id: int, now: datetime) -> None:
    named = {"id": campaign_id, "today": date_in_norway(now)}
    transaction.connection.execute(_NOTE_RELAPSED, named)
    repaired = transaction.connection.execute(_NOTE_REPAIRED, named).scalars()
    count = len(set(repaired))
    if count:
        note_event(transaction, campaign_id, now, _REGISTER, "REPAIRED", count)


def _judge(transaction: Transaction, campaign_id: int, deadline: date, now: datetime) -> None:
    """Settle who is to be deleted, after the deadline, once."""
    _look_who_repaired(transaction, campaign_id, now)
    execute = transaction.connection.execute
    named = {"id": campaign_id, "today": date_in_norway(now), "standings": ["OPEN"]}
    execute(_DOOM, {**named, "sent_before": deadline - LAST_LETTERS + timedelta(days=1)})
    untold = len(set(execute(_LEAVE_UNTOLD, named).scalars()))
    if untold:
        note_event(transaction, campaign_id, now, _REGISTER, "LEFT_UNTOLD", untold)
    execute(_SETTLE, named)
    execute(update(campaign).where(campaign.c.id == campaign_id).values(judged_time=now))
    doomed = execute(_COUNT_DOOMED, named).scalar_one()
    note_event(transaction, campaign_id, now, _REGISTER, "DEADLINE_PASSED", doomed)


def _delete_some(transaction: Transaction, campaign_id: int, digest: Digest, now: datetime) -> bool:
    rows = transaction.connection.execute(_SOME_DOOMED, {"id": campaign_id, "limit": _DELETIONS}).all()
    if not rows:
        set_state(transaction, campaign_id, CampaignState.FINISHED, now)
        note_event(transaction, campaign_id, now, _REGISTER, "FINISHED", 0)
        return False
    persons = transaction.lock_persons([PersonIdentifier(row.identifier) for row in rows])
    shared = {row.identifier: set(zip(row.kinds, map(bytes, row.digests), strict=True)) for row in rows}
    doomed = [person for person in persons.values() if _has_one_of(person, shared[person.identifier], digest)]
    spared = [person for person in persons.values() if person not in doomed]
    for standing, some in (("DELETED", doomed), ("REPAIRED", spared)):
        transaction.connection.execute(
            _NOTE_FATE,
            {
                "id": campaign_id,
                "standing": standing,
                "today": date_in_norway(now),
                "person_ids": [transaction.row_id(person.identifier) for person in some],
            },
        )
    if doomed:
        note_event(transaction, campaign_id, now, _REGISTER, "DELETED", len(doomed))
    # Last: nothing waits after the change numbers.
    transaction.act_for(CallerKind.CLEAN_UP)
    transaction.record(
        [Change(person, person.delete(DeletionReason.SHARED_CONTACT)) for person in doomed], now
    )
    return True


def _has_one_of(person: Person, shared: set[tuple[str, bytes]], digest: Digest) -> bool:
    """Whether the person, now locked, still has one of the values; who changed since is spared."""
    return person.status is Status.ACTIVE and any(
        (kind.value, digest(kind, point.value)) in shared for kind, point in person.contacts.items()
    )
