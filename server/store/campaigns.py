"""Campaigns against shared contact info: planned, previewed, started and read by the staff."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import insert, select, text, update

from server.domain.campaign import SHARED_BY_AT_LEAST, CampaignState, check_deadline, notice_address
from server.domain.contact import ContactKind
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import PersonIdentifier, is_synthetic
from server.domain.message import CHANNEL_TO, Channel
from server.domain.rules import date_in_norway
from server.store.campaign_tables import campaign, campaign_case, campaign_event, campaign_organisation
from server.store.transaction import Answer, Transaction

_ENTER_CASES = text("""
    INSERT INTO campaign_case (campaign_id, kind, digest, person_count)
    SELECT CAST(:id AS bigint), 'email', email_digest, count(*) FROM person
    WHERE status = 'ACTIVE' AND email_digest IS NOT NULL GROUP BY email_digest HAVING count(*) >= :least
  UNION ALL
    SELECT CAST(:id AS bigint), 'mobile', mobile_digest, count(*) FROM person
    WHERE status = 'ACTIVE' AND mobile_digest IS NOT NULL GROUP BY mobile_digest HAVING count(*) >= :least
""")

_ENTER_PERSONS = text("""
    INSERT INTO campaign_person (case_id, person_id, standing, standing_date)
    SELECT campaign_case.id, person.id, 'OPEN', :today FROM campaign_case JOIN person
        ON kind = 'email' AND email_digest = digest OR kind = 'mobile' AND mobile_digest = digest
    WHERE campaign_id = :id AND status = 'ACTIVE'
""")

# Whether two have the value of the case now.
IS_SHARED = """
    2 <= (SELECT count(*) FROM (SELECT FROM person AS sharing
        WHERE sharing.status = 'ACTIVE' AND (kind = 'email' AND sharing.email_digest = digest
            OR kind = 'mobile' AND sharing.mobile_digest = digest) LIMIT 2) AS two)
"""

# Cases of which somebody is still to be told, with the value as one of the persons has it.
_VALUES = text(f"""
    SELECT campaign_case.id, kind, holder.identifier,
        CASE kind WHEN 'email' THEN holder.email ELSE holder.mobile END AS value
    FROM campaign_case CROSS JOIN LATERAL (
        SELECT identifier, email, mobile FROM person
        WHERE status = 'ACTIVE' AND (kind = 'email' AND email_digest = digest
            OR kind = 'mobile' AND mobile_digest = digest)
        ORDER BY id LIMIT 1
    ) AS holder
    WHERE campaign_id = :id AND notice_id IS NULL AND EXISTS (
        SELECT FROM campaign_person WHERE case_id = campaign_case.id AND standing = 'OPEN') AND {IS_SHARED}
    ORDER BY campaign_case.id
""")  # noqa: S608 (a condition from above)

# Persons of the standings who still have a value that others have too.
STILL_SHARING = f"""
    SELECT case_id, person_id, letter_id FROM campaign_person
    JOIN campaign_case ON campaign_case.id = case_id
    JOIN person ON person.id = person_id AND status = 'ACTIVE'
        AND (kind = 'email' AND email_digest = digest OR kind = 'mobile' AND mobile_digest = digest)
    WHERE campaign_id = :id AND standing = ANY(:standings) AND {IS_SHARED}
"""  # noqa: S608 (a condition from above)

_COUNT_FOR_PREVIEW = text(f"""
    SELECT count(DISTINCT person_id) FILTER (WHERE letter_id IS NULL), count(DISTINCT person_id)
    FROM ({STILL_SHARING}) AS sharing
""")  # noqa: S608 (a query from above)

_EXEMPT = text("""
    UPDATE campaign_person SET standing = 'EXEMPT', standing_date = :today
    FROM campaign_case JOIN person ON true
    WHERE campaign_case.id = case_id AND campaign_id = :id AND person.id = person_id
      AND (case_id = :case_id OR identifier = :identifier)
      AND standing IN ('OPEN', 'REPAIRED', 'SETTLED', 'DOOMED')
    RETURNING person_id, letter_id
""")

# What has not left is wanted no more.
_WITHDRAW = text("""
    UPDATE message SET state = 'SUPPRESSED', reason_code = 'NOT_WANTED', recipient = NULL
    WHERE id = ANY(:ids) AND state = 'QUEUED' AND coalesce(leased_until_time < now(), true)
""")

_MESSAGES = text("""
    SELECT notice_id FROM campaign_case WHERE campaign_id = :id AND notice_id IS NOT NULL
  UNION
    SELECT letter_id FROM campaign_person JOIN campaign_case ON campaign_case.id = case_id
    WHERE campaign_id = :id AND letter_id IS NOT NULL
""")

# Of a campaign that deleted nobody yet: the time since then may have changed who shares.
_JUDGE_ANEW = text("""
    UPDATE campaign_person SET standing = 'OPEN' FROM campaign_case
    WHERE campaign_case.id = case_id AND campaign_id = :id AND standing IN ('DOOMED', 'SETTLED')
      AND NOT EXISTS (SELECT FROM campaign_person AS gone JOIN campaign_case AS its ON its.id = gone.case_id
        WHERE its.campaign_id = :id AND gone.standing = 'DELETED')
""")


@dataclass(frozen=True)
class Notice:
    """What an organisation is to be told: of which cases, and whether they are of synthetic persons."""

    channel: Channel
    recipient: str
    cases: tuple[int, ...]
    synthetic: bool


@dataclass(frozen=True)
class Preview:
    """What a campaign would do as things are."""

    notices: Sequence[Notice]
    letters: int
    deletions: int


def plan_campaign(
    transaction: Transaction, actor: str, deadline: date, organisations: Mapping[str, str], now: datetime
) -> Answer:
    """Fix the cases and their persons. The answer's change number is the campaign's id.

    Raises InvalidValue: INVALID_FIELD; Refusal: CAMPAIGN_STATE where another one is open.
    """
    check_deadline(deadline, now)
    execute = transaction.connection.execute
    # In turn: of two who plan at once the second finds the first's.
    execute(text("LOCK TABLE campaign IN SHARE ROW EXCLUSIVE MODE"))
    closed = (CampaignState.FINISHED, CampaignState.ENDED)
    if execute(select(campaign.c.id).where(campaign.c.state.not_in(closed))).first():
        raise Refusal(Reason.CAMPAIGN_STATE)
    row_id: int = execute(
        insert(campaign)
        .values(state=CampaignState.PLANNED, deadline_date=deadline, planned_time=now)
        .returning(campaign.c.id)
    ).scalar_one()
    if organisations:
        execute(
            insert(campaign_organisation),
            [
                {"campaign_id": row_id, "domain": each, "email": email}
                for each, email in organisations.items()
            ],
        )
    cases = execute(_ENTER_CASES, {"id": row_id, "least": SHARED_BY_AT_LEAST}).rowcount
    execute(_ENTER_PERSONS, {"id": row_id, "today": date_in_norway(now)})
    note_event(transaction, row_id, now, actor, "PLANNED", cases)
    return Answer("PLANNED", row_id)


def preview_campaign(transaction: Transaction, actor: str, campaign_id: int, now: datetime) -> Preview:
    """Count what the campaign would do, and keep the number of deletions.

    Raises Refusal: UNKNOWN_CAMPAIGN, or CAMPAIGN_STATE where it is over.
    """
    lock_campaign(transaction, campaign_id)
    execute = transaction.connection.execute
    letters, deletions = execute(
        _COUNT_FOR_PREVIEW, {"id": campaign_id, "standings": ["OPEN", "DOOMED"]}
    ).one()
    execute(
        update(campaign)
        .where(campaign.c.id == campaign_id)
        .values(previewed_deletion_count=deletions, previewed_time=now)
    )
    note_event(transaction, campaign_id, now, actor, "PREVIEWED", deletions)
    return Preview(notices_to_write(transaction, campaign_id), letters, deletions)


def start_campaign(
    transaction: Transaction, actor: str, campaign_id: int, max_deletions: int | None, now: datetime
) -> Answer:
    """Let the campaign run, for the first time or on; of one that runs only its cap changes.

    max_deletions: None for as many as were allowed before, or previewed.

    Raises InvalidValue: INVALID_FIELD where the deadline has come too near; Refusal: UNKNOWN_CAMPAIGN,
    or CAMPAIGN_STATE where it was not previewed or is over.
    """
    row = lock_campaign(transaction, campaign_id)
    if row.previewed_time is None:
        raise Refusal(Reason.CAMPAIGN_STATE)
    if row.state == CampaignState.PLANNED:
        check_deadline(row.deadline_date, now)
    judged_time = row.judged_time
    if (
        row.state != CampaignState.RUNNING
        and transaction.connection.execute(_JUDGE_ANEW, {"id": campaign_id}).rowcount
    ):
        judged_time = None
    if max_deletions is None:
        max_deletions = row.previewed_deletion_count if row.max_deletions is None else row.max_deletions
    transaction.connection.execute(
        update(campaign)
        .where(campaign.c.id == campaign_id)
        .values(
            state=CampaignState.RUNNING,
            started_time=row.started_time or now,
            max_deletions=max_deletions,
            judged_time=judged_time,
        )
    )
    note_event(transaction, campaign_id, now, actor, "STARTED", max_deletions)
    return Answer("STARTED")


def pause_campaign(transaction: Transaction, actor: str, campaign_id: int, now: datetime) -> None:
    """Hold the campaign up; a step under way ends before this does.

    Raises Refusal: UNKNOWN_CAMPAIGN, or CAMPAIGN_STATE where it does not run.
    """
    if lock_campaign(transaction, campaign_id).state != CampaignState.RUNNING:
        raise Refusal(Reason.CAMPAIGN_STATE)
    set_state(transaction, campaign_id, CampaignState.PAUSED, now)
    note_event(transaction, campaign_id, now, actor, "PAUSED", 0)


def end_campaign(transaction: Transaction, actor: str, campaign_id: int, now: datetime) -> None:
    """End the campaign; what it did stays, what has not left is withdrawn. One that has ended stays so.

    Raises Refusal: UNKNOWN_CAMPAIGN.
    """
    row = _lock(transaction, campaign_id)
    if row.ended_time is None:
        execute = transaction.connection.execute
        execute(_WITHDRAW, {"ids": execute(_MESSAGES, {"id": campaign_id}).scalars().all()})
        set_state(transaction, campaign_id, CampaignState.ENDED, now)
        note_event(transaction, campaign_id, now, actor, "ENDED", 0)


def exempt(
    transaction: Transaction,
    actor: str,
    campaign_id: int,
    whom: int | PersonIdentifier,
    reason: str,
    now: datetime,
) -> Answer:
    """Take the persons of a case, or one person, out of the campaign.

    Raises InvalidValue: INVALID_FIELD for a case of another campaign; Refusal: UNKNOWN_CAMPAIGN, or
    CAMPAIGN_STATE where it is over.
    """
    lock_campaign(transaction, campaign_id)
    by_case = isinstance(whom, int)
    of_campaign = select(campaign_case.c.id).where(campaign_case.c.campaign_id == campaign_id)
    if by_case and not transaction.connection.scalar(of_campaign.where(campaign_case.c.id == whom)):
        raise InvalidValue(Reason.INVALID_FIELD, "case_id", "a case of this campaign")
    exempted = transaction.connection.execute(
        _EXEMPT,
        {
            "id": campaign_id,
            "case_id": whom if by_case else None,
            "identifier": None if by_case else whom,
            "today": date_in_norway(now),
        },
    ).all()
    letters = [row.letter_id for row in exempted if row.letter_id]
    if not by_case:
        # By case they may be in another one, about which the letter is too.
        transaction.connection.execute(_WITHDRAW, {"ids": letters})
    count = len({row.person_id for row in exempted})
    note_event(transaction, campaign_id, now, actor, "EXEMPTED", count, reason)
    return Answer("EXEMPTED", affected_count=count)


def notices_to_write(transaction: Transaction, campaign_id: int) -> list[Notice]:
    """What organisations are still to be told: one notice for all cases of a recipient."""
    execute = transaction.connection.execute
    organisations: dict[str, str] = {
        row.domain: row.email
        for row in execute(
            select(campaign_organisation).where(campaign_organisation.c.campaign_id == campaign_id)
        )
    }
    cases: dict[tuple[Channel, str], list[Any]] = {}
    for row in execute(_VALUES, {"id": campaign_id}):
        kind = ContactKind(row.kind)
        recipient = notice_address(row.value, organisations) if kind is ContactKind.EMAIL else row.value
        cases.setdefault((CHANNEL_TO[kind], recipient), []).append(row)
    return [
        Notice(
            channel,
            recipient,
            tuple(row.id for row in rows),
            all(is_synthetic(row.identifier) for row in rows),
        )
        for (channel, recipient), rows in cases.items()
    ]


def lock_campaign(transaction: Transaction, campaign_id: int) -> Any:
    """The campaign, locked until the end: neither its steps nor the staff change it meanwhile.

    Raises Refusal: UNKNOWN_CAMPAIGN, or CAMPAIGN_STATE where it is over.
    """
    row = _lock(transaction, campaign_id)
    if row.ended_time is not None:
        raise Refusal(Reason.CAMPAIGN_STATE)
    return row


def set_state(transaction: Transaction, campaign_id: int, state: CampaignState, now: datetime) -> None:
    """Bring the campaign into the state."""
    ends = state in (CampaignState.FINISHED, CampaignState.ENDED)
    transaction.connection.execute(
        update(campaign)
        .where(campaign.c.id == campaign_id)
        .values({"state": state, **({"ended_time": now} if ends else {})})
    )


def note_event(
    transaction: Transaction,
    campaign_id: int,
    now: datetime,
    actor: str,
    what: str,
    count: int,
    reason: str | None = None,
) -> None:
    """Enter a step in the record."""
    transaction.connection.execute(
        insert(campaign_event).values(
            campaign_id=campaign_id, event_time=now, actor=actor, what=what, count=count, reason=reason
        )
    )


def _lock(transaction: Transaction, campaign_id: int) -> Any:
    row = transaction.connection.execute(
        select(campaign).where(campaign.c.id == campaign_id).with_for_update()
    ).one_or_none()
    if row is None:
        raise Refusal(Reason.UNKNOWN_CAMPAIGN)
    return row
