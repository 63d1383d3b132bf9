"""Sweeps that the register begins by itself, and takes its time for."""

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from krr.v1 import delivery_service_pb2 as pb
from psycopg import Connection

from server.config import Settings
from tests.conftest import Register
from tests.people import OLA
from tests.people import synthetic_identifiers as people
from tests.server.sweeping import (
    ON,
    account,
    at_eboks,
    email_of_its_own,
    lease_comparisons,
    load_many,
    report,
    start,
    state,
)
from tests.server.test_look_up import EMAIL, MAILBOX, load

PERIOD = timedelta(days=10)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The whole register is compared in ten days."""
    return settings.model_copy(update={"sweep_days": PERIOD.days})


def later(database: "Connection[Any]", span: timedelta) -> None:
    """Let so much time pass for sweeps that run."""
    database.execute("UPDATE sweep SET started_time = started_time - %s", [span])


def test_a_sweep_begins_by_itself_and_gives_out_no_more_than_its_time_allows(
    register: Register, database: "Connection[Any]"
) -> None:
    load_many(register, 20)

    assert len(lease_comparisons(register)) == 1
    assert lease_comparisons(register) == []
    later(database, PERIOD / 2)
    assert len(lease_comparisons(register)) == 10
    later(database, PERIOD)
    assert len(lease_comparisons(register)) == 9


def test_the_next_one_begins_when_its_time_has_come_and_not_before(
    register: Register, database: "Connection[Any]"
) -> None:
    load(register, OLA, email=EMAIL, **MAILBOX)
    [leased] = lease_comparisons(register)
    report(register, leased, account=ON)

    later(database, PERIOD - timedelta(hours=1))
    assert lease_comparisons(register) == []
    later(database, timedelta(hours=2))
    # The first call finds that nobody is left.
    read = [*lease_comparisons(register), *lease_comparisons(register)]
    assert [each.identifier for each in read] == [OLA]


def test_a_dry_run_does_not_keep_the_next_one_from_beginning(register: Register) -> None:
    load(register, OLA, email=EMAIL, **MAILBOX)
    sweep_id = start(register, dry_run=True)
    [leased] = lease_comparisons(register)
    report(register, leased, account=ON)

    assert state(register, sweep_id) == "FINISHED"
    assert len(lease_comparisons(register)) == 1


def test_none_begins_after_one_that_stopped_at_its_cap_until_the_staff_begins_one(
    register: Register, database: "Connection[Any]"
) -> None:
    load_many(register, 2)
    sweep_id = start(register, max_repairs=1)
    for leased in lease_comparisons(register):
        report(register, leased, account={"receives_public_mail": False})
    assert state(register, sweep_id) == "STOPPED_AT_CAP"

    later(database, PERIOD * 2)
    assert lease_comparisons(register) == []
    start(register)
    assert len(lease_comparisons(register)) == 2


def test_who_could_not_be_read_does_not_wait_for_the_pace(register: Register) -> None:
    load_many(register, 3)
    [leased] = lease_comparisons(register)
    report(register, leased, try_later=pb.TryLater(error_code="HTTP_503", delay=Duration()))

    assert [each.identifier for each in lease_comparisons(register)] == [leased.identifier]


def test_who_differs_in_a_list_does_not_wait_for_the_pace(register: Register) -> None:
    listed = sorted(identifier for identifier, _ in zip(people(), range(3), strict=False))
    for number, identifier in enumerate(listed):
        load(register, identifier, email=email_of_its_own(number), **at_eboks())
    [part] = lease_comparisons(register, "eboks", lists_accounts=True)
    accounts = [
        pb.ListedAccount(identifier=each, account=account(receives=each != listed[1])) for each in listed
    ]
    report(register, part, "eboks", accounts=pb.AccountsRead(accounts=accounts, is_last=True))

    read = lease_comparisons(register, "eboks", lists_accounts=True)
    assert [each.identifier for each in read] == [listed[1]]
