"""A campaign over many persons while the server is killed: found exactly, deleted once, nobody else."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import krr_client
import psycopg
import pytest
from krr.v1 import campaign_pb2 as pb
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from server.domain.contact import ContactKind
from server.domain.rules import date_in_norway
from server.store.shared_contact import digest_with
from tests.e2e.parts import Parts, register_alone
from tests.open_folder import open_folder
from tests.people import request_id, synthetic_identifiers
from tests.server.database import connect

PERSONS, VALUES = 200_000, 300
SHARERS = 8
PATIENCE_SECONDS = 300

pytestmark = pytest.mark.full_size_figures


@dataclass(frozen=True)
class Finished:
    """A campaign that has come to its end.

    others: rows of those who share nothing, before and after.
    """

    campaign: pb.Campaign
    values: int
    plan_seconds: float
    preview_seconds: float
    others: tuple[Any, Any]
    database: "psycopg.Connection[Any]"


@pytest.fixture(scope="module")
def finished(full_size: bool) -> Iterator[Finished]:
    share = 1 if full_size else 10
    persons, values = PERSONS // share, VALUES // share
    with open_folder() as folder, register_alone(folder) as parts:
        with connect(parts.database_url) as database:
            _enter(database, persons, values)
        began = time.monotonic()
        deadline = date_in_norway(datetime.now(UTC)) + timedelta(days=30)
        plan = pb.PlanCampaignRequest(request_id=request_id(), deadline_date=deadline.isoformat())
        number = _call(parts, "PlanCampaign", plan).campaign_id
        plan_seconds = time.monotonic() - began
        parts.kill("server")
        preview = _call(parts, "PreviewCampaign", pb.PreviewCampaignRequest(campaign_id=number))
        assert preview.deletion_count == values * SHARERS
        with connect(parts.database_url) as database:
            before = _others(database)
        _call(parts, "StartCampaign", pb.StartCampaignRequest(request_id=request_id(), campaign_id=number))
        parts.kill("server")
        everybody = values * SHARERS
        _wait_until(parts, number, lambda campaign: campaign.letter_count > 0)
        parts.kill("server")
        _wait_until(parts, number, lambda campaign: campaign.letter_count == everybody)
        with connect(parts.database_url) as database:
            # What the print house would have told, and what a month brings.
            database.execute(
                "UPDATE message SET state = 'SENT', sent_time = now() - interval '31 days'"
                " WHERE channel = 'LETTER'"
            )
            _repair(database)
            database.execute("UPDATE campaign SET deadline_date = deadline_date - 31")
        parts.kill("server")
        _wait_until(parts, number, lambda campaign: campaign.deleted_count > 0)
        parts.kill("server")
        _wait_until(parts, number, lambda campaign: campaign.state == pb.CAMPAIGN_STATE_FINISHED)
        with connect(parts.database_url) as database:
            yield Finished(
                campaign=_get(parts, number),
                values=values,
                plan_seconds=plan_seconds,
                preview_seconds=preview.took.ToTimedelta().total_seconds(),
                others=(before, _others(database)),
                database=database,
            )


def test_the_cases_are_exactly_the_values_that_many_share(finished: Finished) -> None:
    print(f"planned in {finished.plan_seconds:.1f} s, previewed in {finished.preview_seconds:.2f} s")
    print(f"{finished.campaign.person_count} persons, five kills of the server")
    assert finished.campaign.case_count == finished.values
    assert finished.campaign.person_count == finished.values * SHARERS


def test_half_repaired_and_the_rest_were_deleted_once(finished: Finished) -> None:
    half = finished.values * SHARERS // 2
    assert (finished.campaign.repaired_count, finished.campaign.deleted_count) == (half, half)
    deletions = "SELECT count(*), count(DISTINCT person_id) FROM history WHERE caller_kind = 'clean-up'"
    deleted = f"{deletions} AND field = 'status'"
    assert finished.database.execute(deleted.encode()).fetchone() == (half, half)


def test_everybody_was_written_to_once(finished: Finished) -> None:
    letters = "SELECT count(*), count(DISTINCT person_id) FROM message WHERE channel = 'LETTER'"
    everybody = finished.values * SHARERS
    assert finished.database.execute(letters).fetchone() == (everybody, everybody)
    notices = "SELECT count(*), count(DISTINCT recipient) FROM message WHERE kind = 'SHARED_CONTACT_NOTICE'"
    assert finished.database.execute(notices).fetchone() == (finished.values, finished.values)


def test_nobody_else_was_touched(finished: Finished) -> None:
    before, after = finished.others
    assert before == after


def _enter(database: "psycopg.Connection[Any]", persons: int, values: int) -> None:
    """Persons of whom eight share each of the values, and four another one; two thirds of the values are
    e-mail addresses."""
    [(key,)] = database.execute("SELECT caller_key FROM register").fetchall()
    digest = digest_with(key)
    with database.cursor() as cursor:
        copy = (
            "COPY person (identifier, status, reserved, email, email_updated_time, email_digest,"
            " email_shared, mobile, mobile_updated_time, mobile_digest, mobile_shared, change_number)"
            " FROM STDIN"
        )
        now = datetime.now(UTC)
        with cursor.copy(copy) as rows:
            for number, person in enumerate(itertools.islice(synthetic_identifiers(), persons)):
                email, mobile = f"own{number}@example.no", None
                shared_email = shared_mobile = False
                case = number // SHARERS
                if case < values and case % 3:
                    email, shared_email = f"office{case}@example.no", True
                elif case < values:
                    mobile, shared_mobile = f"+4790{case:06}", True
                elif number < values * SHARERS + 400:
                    email, shared_email = f"family{number // 4}@example.no", True
                rows.write_row(
                    (
                        *(person, "ACTIVE", False, email, now, digest(ContactKind.EMAIL, email)),
                        *(shared_email, mobile, now if mobile else None),
                        *(digest(ContactKind.MOBILE, mobile) if mobile else None, shared_mobile, number + 1),
                    )
                )
    database.execute("UPDATE register SET last_change_number = %s", [persons])
    database.execute("ANALYZE person")


def _repair(database: "psycopg.Connection[Any]") -> None:
    """Every second of those in the campaign gives contact info of their own."""
    statement = """
        UPDATE person SET email = 'mine' || id || '@example.no', email_digest = decode(md5(id::text), 'hex'),
            mobile = NULL, mobile_updated_time = NULL, mobile_digest = NULL
        WHERE id IN (SELECT person_id FROM (
            SELECT person_id, row_number() OVER (PARTITION BY case_id ORDER BY person_id) AS place
            FROM campaign_person) AS placed WHERE place % 2 = 0)
    """
    database.execute(statement.encode())


def _others(database: "psycopg.Connection[Any]") -> Any:
    """All that stands of those whom the campaign is not about."""
    return database.execute(
        "SELECT count(*), md5(string_agg(ROW(identifier, status, reserved, language, email, mobile,"
        " email_updated_time, email_shared, change_number)::text, '' ORDER BY id)) FROM person"
        " WHERE id NOT IN (SELECT person_id FROM campaign_person)"
    ).fetchone()


def _wait_until(parts: Parts, number: int, is_so: Callable[[pb.Campaign], bool]) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while not is_so(_get(parts, number)):
        assert time.monotonic() < ends, "the campaign does not go on"
        time.sleep(0.05)


def _get(parts: Parts, number: int) -> pb.Campaign:
    campaign: pb.Campaign = _call(parts, "GetCampaign", pb.GetCampaignRequest(campaign_id=number)).campaign
    return campaign


def _call(parts: Parts, name: str, request: Any) -> Any:
    ends = time.monotonic() + 60
    with krr_client.connect(parts.register, "Development administrator/test", timeout=60) as channel:
        while True:
            try:
                return getattr(AdminServiceStub(channel), name)(request)
            except krr_client.RegisterError as error:
                if error.status is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > ends:
                    raise
                time.sleep(0.1)
