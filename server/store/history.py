"""The history: which fields of a person changed, when and by what kind of caller."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from server.domain.caller import CallerKind
from server.domain.identifiers import PersonIdentifier
from server.store.transaction import Reader

_LAST = 2**63 - 1


@dataclass(frozen=True)
class HistoryEntry:
    """One change of a person.

    fields: names of what changed, in the order of Change.fields.
    """

    change_number: int
    changed_time: datetime
    changed_by: CallerKind
    fields: tuple[str, ...]


_LIST = text("""
    SELECT history.change_number, history.changed_time, history.caller_kind,
        array_agg(history.field ORDER BY history.id) AS fields
    FROM history JOIN person ON person.id = history.person_id
    WHERE person.identifier = :identifier AND history.change_number < :before
    GROUP BY history.change_number, history.changed_time, history.caller_kind
    ORDER BY history.change_number DESC LIMIT :limit
""")


def list_history(
    reader: Reader, identifier: PersonIdentifier, *, before: int | None, limit: int
) -> list[HistoryEntry]:
    """The person's changes by falling change number below `before`; None stands for all."""
    rows = reader.connection.execute(
        _LIST, {"identifier": identifier, "before": _LAST if before is None else before, "limit": limit}
    )
    return [
        HistoryEntry(row.change_number, row.changed_time, CallerKind(row.caller_kind), tuple(row.fields))
        for row in rows
    ]
