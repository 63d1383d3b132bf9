"""Every no has one declared reason and status, and no fault shows its text to anyone."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from krr.v1 import citizen_service_pb2, error_reason_pb2, mailbox_operator_service_pb2
from opentelemetry.sdk.trace import ReadableSpan
from psycopg import Connection, sql
from sqlalchemy import make_url

from server.domain.errors import Reason
from server.errors import STATUS
from tests.people import KARI, NIELS, OLA, register_request, request_id
from tests.server.database import connect, contents
from tests.server.rpcs import Outcome, Rpcs
from tests.server.valid_requests import LOG_IN_SERVICE, PERSONAL, PUBLIC, valid_requests

PROTO = Path(__file__).parents[2] / "protos" / "krr" / "v1" / "error_reason.proto"
DECLARED = {
    name.removeprefix("ERROR_REASON_")
    for name in error_reason_pb2.ErrorReason.keys()  # noqa: SIM118 (an enum wrapper, no dict)
    if name != "ERROR_REASON_UNSPECIFIED"
}
RESULTS = {
    name.removeprefix("MAILBOX_RESULT_")
    for name in mailbox_operator_service_pb2.MailboxResult.keys()  # noqa: SIM118 (an enum wrapper, no dict)
}


def register(rpcs: Rpcs, person: str = OLA, **fields: Any) -> Outcome:
    return rpcs.call("CitizenService/RegisterPerson", register_request(person, **fields), LOG_IN_SERVICE)


def test_every_reason_of_the_contract_can_be_given_and_every_reason_given_is_in_the_contract() -> None:
    given = {reason.name for reason in Reason}

    assert given >= DECLARED
    assert given - DECLARED <= RESULTS
    assert {reason.name for reason in STATUS} == DECLARED


def test_each_reason_has_the_status_that_the_contract_says() -> None:
    # The first word of the comment above each value.
    said = re.findall(r"\n  // ([A-Z_]+)\..*(?:\n  //.*)*\n  ERROR_REASON_([A-Z_]+) = ", PROTO.read_text())

    assert {reason: status for status, reason in said} == {
        reason.name: status.name for reason, status in STATUS.items()
    }


def test_what_the_caller_is_told_of_a_reason_is_a_text_of_its_own() -> None:
    texts = [reason.value for reason in Reason]

    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_a_refusal_carries_one_reason_of_this_contract_and_a_retry_only_where_one_helps(rpcs: Rpcs) -> None:
    outcome = rpcs.call(
        "CitizenService/ConfirmContact",
        citizen_service_pb2.ConfirmContactRequest(request_id=request_id(), identifier=OLA),
        f"citizen/{OLA}",
    )

    [info] = outcome.infos
    assert (info.reason, info.domain, dict(info.metadata)) == ("PERSON_NOT_FOUND", "krr.v1", {})
    assert outcome.code is StatusCode.NOT_FOUND
    assert outcome.retry_after is None
    assert not outcome.fields


def test_a_field_to_blame_is_named_with_its_place_in_a_list(rpcs: Rpcs) -> None:
    caller, request = valid_requests(rpcs)["AdminService/LoadPersons"]
    request.persons.add().CopyFrom(request.persons[0])
    request.persons[1].identifier = KARI
    request.persons[1].mailboxes[0].address = "short"

    assert rpcs.call("AdminService/LoadPersons", request, caller).fields == (
        "persons[1].mailboxes[0].address",
    )


@contextmanager
def locked_out(database_url: str) -> Iterator[None]:
    """PostgreSQL ends every connection to the database and takes no new one."""
    name = make_url(database_url).database or ""
    at_postgres = make_url(database_url).set(database="postgres").render_as_string(hide_password=False)
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with connect(at_postgres) as connection:
        connection.execute(allow.format(sql.Identifier(name), sql.Literal(False)))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        yield
        connection.execute(allow.format(sql.Identifier(name), sql.Literal(True)))


def test_without_the_database_each_rpc_is_unavailable_and_says_when_to_try_again(
    rpcs: Rpcs, database_url: str
) -> None:
    valid = valid_requests(rpcs)

    with locked_out(database_url):
        for rpc, (caller, request) in valid.items():
            outcome = rpcs.call(rpc, request, caller)
            assert outcome.code is StatusCode.UNAVAILABLE, rpc
            assert [info.reason for info in outcome.infos] == ["DATABASE_UNAVAILABLE"], rpc
            assert outcome.retry_after == 0.5, rpc
    for rpc in ("RegisterService/LookUpPersons", "CitizenService/UpdateContact"):
        caller, request = valid[rpc]
        assert rpcs.call(rpc, request, caller).code is StatusCode.OK


def test_health_follows_the_database_away_and_back_and_survives_a_broken_one(
    rpcs: Rpcs, database_url: str, database: "Connection[Any]"
) -> None:
    with grpc.insecure_channel(rpcs.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        told = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        wait_for(channel, health_pb2.HealthCheckResponse.SERVING)
        database.execute("ALTER TABLE register RENAME TO gone")
        wait_for(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        database.execute("ALTER TABLE gone RENAME TO register")
        wait_for(channel, health_pb2.HealthCheckResponse.SERVING)
        with locked_out(database_url):
            wait_for(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        wait_for(channel, health_pb2.HealthCheckResponse.SERVING)
        names = [health_pb2.HealthCheckResponse.ServingStatus.Name(next(told).status) for _ in range(5)]
        assert names == ["SERVING", "NOT_SERVING", "SERVING", "NOT_SERVING", "SERVING"]
        told.cancel()


def wait_for(channel: grpc.Channel, status: Any) -> None:
    """Pass when health is so; fail after 2 seconds, for no longer may it be wrong."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    ends = time.monotonic() + 2
    while stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status != status:
        assert time.monotonic() < ends, "health is not so within 2 seconds"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "broken",
    [
        "ALTER TABLE history RENAME TO gone",
        "ALTER TABLE person RENAME COLUMN email TO gone",
        # PostgreSQL's message quotes the whole row.
        "ALTER TABLE person ADD CONSTRAINT nobody CHECK (mobile IS NULL)",
        # And here the text of the exception is of our own making.
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'fault at %', NEW.email; END $$; "
        "CREATE TRIGGER fail BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION fail()",
    ],
)
def test_a_fault_is_internal_and_its_text_reaches_neither_caller_nor_log_nor_span(
    rpcs: Rpcs,
    database: "Connection[Any]",
    spans: Callable[[], list[ReadableSpan]],
    capfd: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    before = contents(database, ("request", "register", "message"))
    database.execute(broken.encode())

    outcome = register(rpcs)

    assert outcome.code is StatusCode.INTERNAL
    assert [info.reason for info in outcome.infos] == ["INTERNAL"]
    assert outcome.retry_after is None
    written = capfd.readouterr()
    logged = written.out + written.err
    assert "internal_fault" in logged
    assert "CitizenService/RegisterPerson" in logged
    spanned = "".join(span.to_json() for span in spans())
    assert "INTERNAL" in spanned
    for text in (*PERSONAL, "gone", "history", "nobody", "fault at", "Failing row"):
        assert text not in outcome.told
        assert text not in spanned or text == "history"
        assert text not in logged
    assert contents(database, ("request", "register", "message")) == before


def test_a_unique_value_that_stands_already_is_a_conflict_that_quotes_nothing(
    rpcs: Rpcs,
    database: "Connection[Any]",
    spans: Callable[[], list[ReadableSpan]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    database.execute("CREATE UNIQUE INDEX ON person (email)")
    assert register(rpcs, KARI).code is StatusCode.OK

    outcome = register(rpcs, NIELS)

    assert outcome.code is StatusCode.ABORTED
    assert [info.reason for info in outcome.infos] == ["CONFLICT"]
    assert outcome.retry_after == 0.1
    spanned = "".join(span.to_json() for span in spans())
    assert "23505" in spanned
    written = capfd.readouterr()
    for text in PERSONAL:
        assert text not in outcome.told + spanned + written.out + written.err


def test_a_fault_is_logged_with_its_method_also_where_the_call_is_not_traced(
    rpcs: Rpcs, database: "Connection[Any]", capfd: pytest.CaptureFixture[str]
) -> None:
    database.execute("ALTER TABLE person RENAME TO gone")
    not_sampled = (("traceparent", f"00-{'1' * 32}-{'2' * 16}-00"),)

    outcome = rpcs.call("RegisterService/ListChanges", caller=PUBLIC, metadata=not_sampled)

    assert outcome.code is StatusCode.INTERNAL
    written = capfd.readouterr()
    assert "RegisterService/ListChanges" in written.out + written.err
