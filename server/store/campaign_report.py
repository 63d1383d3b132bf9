"""Campaigns against shared contact info as the staff reads them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, select, text

from server.domain.errors import Reason, Refusal
from server.store.campaign_tables import campaign
from server.store.transaction import Reader

# Of a person in several cases the standing that says most.
_CAMPAIGN = """
    SELECT campaign.*,
        (SELECT count(*) FROM campaign_case WHERE campaign_id = campaign.id) AS case_count,
        (SELECT count(DISTINCT notice_id) FROM campaign_case WHERE campaign_id = campaign.id) AS notice_count,
        counted.*
    FROM campaign CROSS JOIN LATERAL (
        SELECT count(*) AS person_count, count(letter) AS letter_count,
            count(*) FILTER (WHERE 'DELETED' = ANY(standings)) AS deleted_count,
            count(*) FILTER (WHERE NOT 'DELETED' = ANY(standings)
                AND standings && '{OPEN,DOOMED}') AS open_count,
            count(*) FILTER (WHERE NOT standings && '{DELETED,OPEN,DOOMED}'
                AND 'EXEMPT' = ANY(standings)) AS exempt_count,
            count(*) FILTER (WHERE NOT standings && '{DELETED,OPEN,DOOMED,EXEMPT}'
                AND 'SETTLED' = ANY(standings)) AS settled_count,
            count(*) FILTER (WHERE standings <@ '{REPAIRED}') AS repaired_count
        FROM (
            SELECT person_id, array_agg(standing) AS standings, (array_agg(letter_id))[1] AS letter
            FROM campaign_person JOIN campaign_case ON campaign_case.id = case_id
            WHERE campaign_id = campaign.id GROUP BY person_id
        ) AS persons
    ) AS counted
"""

_DAYS = text("""
    SELECT date, count(*) FILTER (WHERE NOT deleted) AS repaired, count(*) FILTER (WHERE deleted) AS deleted
    FROM (
        SELECT max(standing_date) AS date, bool_or(standing = 'DELETED') AS deleted
        FROM campaign_person JOIN campaign_case ON campaign_case.id = case_id
        WHERE campaign_id = :id GROUP BY person_id
        HAVING bool_or(standing = 'DELETED') OR bool_and(standing = 'REPAIRED')
    ) AS persons
    GROUP BY date ORDER BY date
""")

_CASES = text("""
    SELECT campaign_case.id, kind, person_count, notice_id,
        count(*) FILTER (WHERE standing = 'REPAIRED') AS repaired,
        count(*) FILTER (WHERE standing = 'EXEMPT') AS exempt,
        count(*) FILTER (WHERE standing = 'SETTLED') AS settled,
        count(*) FILTER (WHERE standing = 'DELETED') AS deleted,
        count(*) FILTER (WHERE standing IN ('OPEN', 'DOOMED')) AS open
    FROM campaign_case JOIN campaign_person ON case_id = campaign_case.id
    WHERE campaign_id = :id AND campaign_case.id > :after
    GROUP BY campaign_case.id ORDER BY campaign_case.id LIMIT :limit
""")

_EVENTS = text("""
    SELECT id, event_time, actor, what, count, coalesce(reason, '') AS reason FROM campaign_event
    WHERE campaign_id = :id AND id > :after ORDER BY id LIMIT :limit
""")


def find_campaign(reader: Reader, campaign_id: int) -> RowMapping:
    """The campaign with its counts. Raises Refusal: UNKNOWN_CAMPAIGN."""
    found = (
        reader.connection.execute(text(f"{_CAMPAIGN} WHERE campaign.id = :id"), {"id": campaign_id})
        .mappings()
        .first()
    )
    if found is None:
        raise Refusal(Reason.UNKNOWN_CAMPAIGN)
    return found


def list_campaigns(reader: Reader, limit: int) -> Sequence[RowMapping]:
    """The newest campaigns with their counts."""
    newest = text(f"{_CAMPAIGN} ORDER BY campaign.id DESC LIMIT :limit")
    return reader.connection.execute(newest, {"limit": limit}).mappings().all()


def list_days(reader: Reader, campaign_id: int) -> Sequence[Any]:
    """What became of the campaign's persons, day by day."""
    return reader.connection.execute(_DAYS, {"id": campaign_id}).all()


def list_cases(reader: Reader, campaign_id: int, *, after: int, limit: int) -> Sequence[Any]:
    """The campaign's cases above that id. Raises Refusal: UNKNOWN_CAMPAIGN."""
    _must_be_there(reader, campaign_id)
    return reader.connection.execute(_CASES, {"id": campaign_id, "after": after, "limit": limit}).all()


def list_events(reader: Reader, campaign_id: int, *, after: int, limit: int) -> Sequence[Any]:
    """The campaign's record after that event. Raises Refusal: UNKNOWN_CAMPAIGN."""
    _must_be_there(reader, campaign_id)
    return reader.connection.execute(_EVENTS, {"id": campaign_id, "after": after, "limit": limit}).all()


def _must_be_there(reader: Reader, campaign_id: int) -> None:
    if not reader.connection.scalar(select(campaign.c.id).where(campaign.c.id == campaign_id)):
        raise Refusal(Reason.UNKNOWN_CAMPAIGN)
