"""Persons that are not ready to be sent: those that code from before wrote."""

from collections.abc import Callable

from sqlalchemy import Connection, any_, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY, BIGINT

from server.domain.person import Person
from server.store.rows import load_persons, persons_in_one_statement
from server.store.tables import person

_SET_ENCODED = text("""
    UPDATE person SET encoded = new.encoded
    FROM unnest(CAST(:ids AS bigint[]), CAST(:encoded AS bytea[])) AS new (id, encoded)
    WHERE person.id = new.id
""")


def give_encoded(connection: Connection, encode: Callable[[Person], bytes], limit: int) -> int:
    """Encode up to `limit` of the persons that are not; returns how many were. Their change
    numbers stay.

    Waits for no lock: who is locked has to wait for the next time. The transaction must lock
    no person after it.
    """
    row_ids = connection.scalars(
        select(person.c.id)
        .where(person.c.encoded.is_(None))
        .order_by(person.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not row_ids:
        return 0
    # A statement of its own: the one that took the locks may have read from before it had them.
    locked = person.c.id == any_(literal(row_ids, ARRAY(BIGINT)))
    found = load_persons(connection, persons_in_one_statement(person).where(locked))
    connection.execute(
        _SET_ENCODED, {"ids": list(found), "encoded": [encode(each) for each in found.values()]}
    )
    return len(row_ids)
