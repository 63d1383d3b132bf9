"""Certificates to which senders encrypt. They are added and retired, never deleted."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, func, insert, select, update

from server.domain.certificates import Certificate, CertificateContent, CertificateUse, Retirement
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import OrganisationNumber
from server.store.tables import certificate, certificate_counter, mailbox_operator
from server.store.transaction import Answer, Reader, Transaction

_WARN_EVERY = timedelta(days=1)


def last_change(reader: Reader) -> int:
    """The number of the last change of any certificate."""
    number: int = reader.connection.execute(select(certificate_counter.c.last_change_number)).scalar_one()
    return number


def all_certificates(reader: Reader) -> list[Certificate]:
    """All that ever were, in the order in which they were added."""
    return _read(reader)


def unretired(reader: Reader, use: CertificateUse) -> list[Certificate]:
    """Those for the use that are not retired; some may have expired."""
    return _read(reader, certificate.c.use == use.value, certificate.c.retired_time.is_(None))


def operators(reader: Reader) -> Sequence[tuple[OrganisationNumber, str]]:
    """Number and name of each mailbox operator, by number."""
    table = mailbox_operator
    rows = reader.connection.execute(
        select(table.c.organisation_number, table.c.name).order_by(table.c.organisation_number)
    )
    return [(number, name) for number, name in rows]


def find(reader: Reader, use: CertificateUse, sha256: bytes) -> Certificate | None:
    """The certificate for the use, retired or not, by the SHA-256 of its DER."""
    found = _read(reader, certificate.c.use == use.value, certificate.c.sha256 == sha256)
    return found[0] if found else None


def add(
    transaction: Transaction,
    content: CertificateContent,
    use: CertificateUse,
    organisation_number: OrganisationNumber,
    use_from: datetime,
    now: datetime,
) -> Answer:
    """Enter the certificate, unless it is there already.

    Raises Refusal: CERTIFICATE_RETIRED.
    """
    # Locked first, so that of two who enter the same certificate the later one finds it.
    last = _lock_counter(transaction)
    present = find(transaction, use, content.sha256)
    if present:
        if present.retirement:
            raise Refusal(Reason.CERTIFICATE_RETIRED)
        return Answer("UNCHANGED", present.added_change_number)
    transaction.connection.execute(
        insert(certificate).values(
            use=use.value,
            organisation_number=organisation_number,
            der=content.der,
            sha256=content.sha256,
            valid_from_time=content.valid_from,
            valid_until_time=content.valid_until,
            use_from_time=use_from,
            added_time=now,
            added_change_number=last + 1,
        )
    )
    _count(transaction, last + 1)
    return Answer("CHANGED", last + 1)


def retire(transaction: Transaction, certificate_id: int, now: datetime) -> Answer:
    """Retire the certificate, unless it is retired already.

    Raises Refusal: UNKNOWN_CERTIFICATE.
    """
    last = _lock_counter(transaction)
    present = get(transaction, certificate_id)
    if present.retirement:
        return Answer("UNCHANGED", present.retirement.change_number)
    transaction.connection.execute(
        update(certificate)
        .where(certificate.c.id == certificate_id)
        .values(retired_time=now, retired_change_number=last + 1)
    )
    _count(transaction, last + 1)
    return Answer("CHANGED", last + 1)


def get(reader: Reader, certificate_id: int) -> Certificate:
    """The certificate. Raises Refusal: UNKNOWN_CERTIFICATE."""
    found = _read(reader, certificate.c.id == certificate_id)
    if not found:
        raise Refusal(Reason.UNKNOWN_CERTIFICATE)
    return found[0]


def may_warn(transaction: Transaction, now: datetime) -> bool:
    """Whether the staff is to be warned now: of all servers one is told so, once a day."""
    table = certificate_counter
    due = func.coalesce(table.c.warned_time <= now - _WARN_EVERY, True)
    statement = update(table).where(due).values(warned_time=now)
    return transaction.connection.execute(statement).rowcount == 1


def _lock_counter(transaction: Transaction) -> int:
    statement = select(certificate_counter.c.last_change_number).with_for_update()
    last: int = transaction.connection.execute(statement).scalar_one()
    return last


def _count(transaction: Transaction, number: int) -> None:
    transaction.connection.execute(update(certificate_counter).values(last_change_number=number))


def _read(reader: Reader, *conditions: ColumnElement[bool]) -> list[Certificate]:
    statement = select(certificate).where(*conditions).order_by(certificate.c.id)
    return [_certificate(row) for row in reader.connection.execute(statement)]


def _certificate(row: Row[Any]) -> Certificate:
    return Certificate(
        id=row.id,
        use=CertificateUse(row.use),
        organisation_number=row.organisation_number,
        der=row.der,
        sha256=row.sha256,
        valid_from=row.valid_from_time,
        valid_until=row.valid_until_time,
        use_from=row.use_from_time,
        added_time=row.added_time,
        added_change_number=row.added_change_number,
        retirement=(
            Retirement(time=row.retired_time, change_number=row.retired_change_number)
            if row.retired_time
            else None
        ),
    )
