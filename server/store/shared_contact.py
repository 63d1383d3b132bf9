"""Which values stand on several persons: noted with each change, counted by a job."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    LargeBinary,
    any_,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.sql.selectable import TableValuedAlias

from server.domain.caller import CallerKind
from server.domain.change import Change
from server.domain.contact import ContactKind, comparable
from server.domain.person import Person
from server.store.prepared import prepared_on
from server.store.rows import Digest
from server.store.tables import person, shared_recount
from server.store.write_statements import NOTE_VALUES

_DIGEST_BYTES = 16
# SHA-256's; a key must not be longer.
_BLOCK = 64

# Held by whoever counts, so that several servers do not count the same. Any constant will do.
_RECOUNT_LOCK = 7_221_115


@dataclass(frozen=True)
class Notes:
    """Notes read, and the digests of the values that they name."""

    ids: tuple[int, ...]
    digests: dict[ContactKind, set[bytes]]


@dataclass(frozen=True)
class Flagged:
    """A person's flags.

    digests: of the values that have one.
    shared: the flags of those values.
    encoded: as stored.
    """

    row_id: int
    digests: Mapping[ContactKind, bytes]
    shared: Mapping[ContactKind, bool]
    encoded: bytes | None


_LOCK = text("""
    SELECT id, email_digest, email_shared, mobile_digest, mobile_shared, encoded FROM person
    WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY identifier FOR UPDATE
""")

# The flag of a value without digest stays: it is counted when the value has one.
_SET_FLAGS = text("""
    UPDATE person SET
        email_shared = coalesce(new.email_shared, person.email_shared),
        mobile_shared = coalesce(new.mobile_shared, person.mobile_shared),
        change_number = new.change_number,
        encoded = int8send(new.change_number) || substr(new.encoded, 9)
    FROM unnest(
        CAST(:ids AS bigint[]), CAST(:numbers AS bigint[]), CAST(:email_shared AS boolean[]),
        CAST(:mobile_shared AS boolean[]), CAST(:encoded AS bytea[])
    ) AS new (id, change_number, email_shared, mobile_shared, encoded)
    WHERE person.id = new.id
""")

_ADD_HISTORY = text("""
    INSERT INTO history (person_id, change_number, changed_time, field, caller_kind)
    SELECT new.person_id, new.change_number, CAST(:now AS timestamptz), new.field, :caller_kind
    FROM unnest(CAST(:ids AS bigint[]), CAST(:numbers AS bigint[]), CAST(:fields AS text[]))
        AS new (person_id, change_number, field)
""")


def digest_with(key: bytes) -> Digest:
    """The digest of a value under the register's key."""

    # HMAC (RFC 2104), as hmac.digest gives it, of the kind, NUL and the value; whatever is the same
    # for all values is hashed once: an import has millions.
    padded = key.ljust(_BLOCK, b"\0")
    inner = {
        kind: hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + f"{kind}\0".encode())
        for kind in ContactKind
    }
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def digest(kind: ContactKind, value: str) -> bytes:
        of_value = inner[kind].copy()
        of_value.update(comparable(kind, value).encode())
        keyed = outer.copy()
        keyed.update(of_value.digest())
        return keyed.digest()[:_DIGEST_BYTES]

    return digest


def note_for_recount(connection: Connection, digest: Digest, changes: Iterable[Change]) -> None:
    """Note the values that the changes brought to a person or took from one."""
    values = {
        (kind, value)
        for change in changes
        for kind in ContactKind
        if value_of(change.before, kind) != value_of(change.after, kind)
        for value in (value_of(change.before, kind), value_of(change.after, kind))
        if value is not None
    }
    note_digests(connection, [(kind, digest(kind, value)) for kind, value in values])


def note_digests(connection: Connection, values: Collection[tuple[ContactKind, bytes]]) -> None:
    """Note values, each by its kind and digest."""
    if values:
        noted = sorted(values)
        prepared_on(connection).run(
            NOTE_VALUES,
            kinds=[kind.value for kind, _ in noted],
            digests=[digest for _, digest in noted],
        )


def only_here(connection: Connection) -> bool:
    """Whether no other transaction counts; none will before this one ends."""
    return bool(connection.scalar(select(func.pg_try_advisory_xact_lock(_RECOUNT_LOCK))))


def oldest_notes(connection: Connection, limit: int) -> Notes:
    """The notes that wait longest; they stay until they are forgotten."""
    table = shared_recount
    rows = connection.execute(
        select(table.c.id, table.c.kind, table.c.digest).order_by(table.c.id).limit(limit)
    ).all()
    return Notes(
        tuple(row.id for row in rows),
        {kind: {row.digest for row in rows if row.kind == kind} for kind in ContactKind},
    )


def forget_notes(connection: Connection, notes: Notes) -> None:
    """Forget the notes, whose values have been counted since they were read."""
    connection.execute(
        delete(shared_recount).where(shared_recount.c.id == any_(literal(notes.ids, ARRAY(BigInteger))))
    )


def give_digests(connection: Connection, digest: Digest, limit: int) -> int:
    """Give a digest to up to `limit` values of each kind that have none; note those whose
    persons are now wrongly flagged. Returns how many got one.

    Waits for no lock: who is locked has to wait for the next time. The transaction must lock
    no person after it.
    """
    given = 0
    for kind in ContactKind:
        own = person.c[f"{kind}_digest"]
        rows = connection.execute(
            select(person.c.id, person.c[kind.value].label("value"))
            .where(person.c[kind.value].is_not(None), own.is_(None))
            .order_by(person.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).all()
        if not rows:
            continue
        digests = [digest(kind, row.value) for row in rows]
        new = (
            func.unnest(
                literal([row.id for row in rows], ARRAY(BigInteger)), literal(digests, ARRAY(LargeBinary))
            )
            .table_valued(column("id", BigInteger), column("digest", LargeBinary), name="new")
            .render_derived()
        )
        connection.execute(update(person).values({own: new.c.digest}).where(person.c.id == new.c.id))
        # Most stand on one person only and need no note.
        noted = _unnested(set(digests))
        wrong = select(literal(kind.value), noted.c.digest).where(
            exists().where(own == noted.c.digest, person.c[f"{kind}_shared"] == ~_on_several(kind, noted))
        )
        connection.execute(insert(shared_recount).from_select(["kind", "digest"], wrong))
        given += len(rows)
    return given


def wrongly_flagged(
    connection: Connection, kind: ContactKind, digests: Collection[bytes], limit: int
) -> list[int]:
    """Row ids of up to `limit` of the persons that have one of the values and a flag that is wrong."""
    noted = _unnested(digests)
    # By value and with a limit for each, so that the plan is a look-up for each, whatever the
    # planner believes of the values' frequency.
    wrong = (
        select(person.c.id)
        .where(
            person.c[f"{kind}_digest"] == noted.c.digest,
            person.c[f"{kind}_shared"] == ~_on_several(kind, noted),
        )
        .limit(limit)
        .lateral("wrong")
    )
    return list(connection.scalars(select(wrong.c.id).select_from(noted.join(wrong, true())).limit(limit)))


def lock(connection: Connection, row_ids: Collection[int]) -> list[Flagged]:
    """The persons, locked until the end, in the order of their identifiers."""
    rows = connection.execute(_LOCK, {"ids": list(row_ids)}).mappings().all()
    return [
        Flagged(
            row["id"],
            {kind: row[f"{kind}_digest"] for kind in ContactKind if row[f"{kind}_digest"]},
            {kind: row[f"{kind}_shared"] for kind in ContactKind if row[f"{kind}_digest"]},
            row["encoded"],
        )
        for row in rows
    ]


def on_several_persons(connection: Connection, kind: ContactKind, digests: Collection[bytes]) -> set[bytes]:
    """Those of the values that stand on more than one person."""
    noted = _unnested(digests)
    return set(connection.scalars(select(noted.c.digest).where(_on_several(kind, noted))))


def set_flags(
    connection: Connection, changed: Sequence[tuple[Flagged, Flagged]], numbers: Sequence[int], now: datetime
) -> None:
    """Write the flags of locked persons, given before and after, with a change number for each
    and the history.
    """
    connection.execute(
        _SET_FLAGS,
        {
            "ids": [after.row_id for _, after in changed],
            "numbers": list(numbers),
            "email_shared": [after.shared.get(ContactKind.EMAIL) for _, after in changed],
            "mobile_shared": [after.shared.get(ContactKind.MOBILE) for _, after in changed],
            "encoded": [after.encoded for _, after in changed],
        },
    )
    entries = [
        (after.row_id, number, f"{kind}_shared")
        for (before, after), number in zip(changed, numbers, strict=True)
        for kind in ContactKind
        if before.shared.get(kind) != after.shared.get(kind)
    ]
    ids, entry_numbers, fields = zip(*entries, strict=True)
    connection.execute(
        _ADD_HISTORY,
        {
            "ids": list(ids),
            "numbers": list(entry_numbers),
            "fields": list(fields),
            "now": now,
            "caller_kind": CallerKind.REGISTER.value,
        },
    )


def _unnested(digests: Collection[bytes]) -> TableValuedAlias:
    array = literal(list(digests), ARRAY(LargeBinary))
    return func.unnest(array).table_valued(column("digest", LargeBinary), name="noted").render_derived()


def _on_several(kind: ContactKind, noted: TableValuedAlias) -> ColumnElement[bool]:
    # Whether there is a second one: a business's address stands on a hundred thousand. Only who
    # is ACTIVE has a value.
    holder = person.alias("holder")
    return (
        select(holder.c.id)
        .where(holder.c[f"{kind}_digest"] == noted.c.digest)
        .offset(1)
        .correlate(noted)
        .exists()
    )


def value_of(of: Person, kind: ContactKind) -> str | None:
    """The person's e-mail address or mobile number, if there is one."""
    point = of.contacts.get(kind)
    return point.value if point else None
