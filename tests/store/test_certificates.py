"""Certificates in the database: counted in order, one of each, whoever enters them at once."""

import time
from datetime import UTC, datetime

import psycopg
import pytest

from server.certificate_content import read_certificate
from server.domain.caller import Caller, CallerKind
from server.domain.certificates import CertificateContent, CertificateUse
from server.domain.errors import Reason, Refusal
from server.domain.identifiers import OrganisationNumber
from server.store import certificates
from server.store.store import Store
from server.store.transaction import Answer
from tests import people
from tests.certificates import DAY, organisation_certificate
from tests.store import steps

DIGIPOST = OrganisationNumber(people.DIGIPOST)
STAFF = Caller(CallerKind.ADMINISTRATOR, "test")
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def in_time() -> float:
    return time.monotonic() + 20


MAILBOX = CertificateUse.MAILBOX


def made() -> CertificateContent:
    return read_certificate(organisation_certificate(DIGIPOST, valid_from=NOW - DAY))


def add(store: Store, content: CertificateContent, use: CertificateUse = MAILBOX) -> Answer:
    return store.write(
        STAFF,
        lambda transaction: certificates.add(transaction, content, use, DIGIPOST, NOW, NOW),
        deadline=in_time(),
    )


def retire(store: Store, certificate_id: int) -> Answer:
    return store.write(
        STAFF,
        lambda transaction: certificates.retire(transaction, certificate_id, NOW),
        deadline=in_time(),
    )


def test_of_those_who_enter_the_same_certificate_at_once_one_changes_something(store: Store) -> None:
    content = made()

    answers = steps.together(*[lambda: add(store, content)] * 8)

    assert sorted((answer.result, answer.change_number) for answer in answers) == [
        ("CHANGED", 1),
        *[("UNCHANGED", 1)] * 7,
    ]
    assert len(store.read(certificates.all_certificates, deadline=in_time())) == 1


def test_changes_at_once_are_counted_one_by_one(store: Store) -> None:
    contents = [made() for _ in range(8)]

    answers = steps.together(*[lambda content=content: add(store, content) for content in contents])

    assert sorted(answer.change_number for answer in answers) == list(range(1, 9))
    assert store.read(certificates.last_change, deadline=in_time()) == 8


def test_of_those_who_retire_a_certificate_at_once_one_changes_something(store: Store) -> None:
    add(store, made())

    answers = steps.together(*[lambda: retire(store, 1)] * 8)

    assert sorted(answer.result for answer in answers) == ["CHANGED", *["UNCHANGED"] * 7]
    assert {answer.change_number for answer in answers} == {2}
    [found] = store.read(certificates.all_certificates, deadline=in_time())
    assert found.retirement
    assert found.retirement.change_number == 2


def test_a_certificate_for_both_uses_is_two(store: Store) -> None:
    content = made()
    assert add(store, content).change_number == 1
    assert add(store, content, CertificateUse.PRINT).change_number == 2

    retire(store, 1)

    [left] = store.read(
        lambda reader: certificates.unretired(reader, CertificateUse.PRINT), deadline=in_time()
    )
    assert left.sha256 == content.sha256
    with pytest.raises(Refusal) as refused:
        add(store, content)
    assert refused.value.reason is Reason.CERTIFICATE_RETIRED


def test_a_change_of_certificates_leaves_the_count_of_persons_alone(
    store: Store, database: psycopg.Connection
) -> None:
    row = "SELECT register, xmin::text FROM register"
    before = database.execute(row).fetchall()

    add(store, made())
    retire(store, 1)

    assert database.execute(row).fetchall() == before
