"""Operators that list their accounts: whole parts are compared, and only who differs is read."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from krr.v1 import delivery_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import synthetic_identifiers as people
from tests.server.database import contents
from tests.server.sweeping import (
    NO_ACCOUNT,
    account,
    at_eboks,
    email_of_its_own,
    kinds,
    lease_comparisons,
    report,
    start,
    state,
    sweep,
)
from tests.server.test_look_up import load

LATER = pb.TryLater(error_code="HTTP_503", delay=Duration())
SIX = sorted(identifier for identifier, _ in zip(people(), range(6), strict=False))


def address(identifier: str) -> str:
    """Of the person at e-Boks."""
    return f"eboks-{SIX.index(identifier)}-address"


@pytest.fixture
def six(register: Register) -> list[str]:
    """Persons who chose e-Boks, in the order of their identifiers."""
    for number, identifier in enumerate(SIX):
        load(register, identifier, email=email_of_its_own(number), **at_eboks(address(identifier)))
    return SIX


def listed(*identifiers: str, **differing: pb.AccountRead) -> list[pb.ListedAccount]:
    """In step with the register, but for those given."""
    return [
        pb.ListedAccount(
            identifier=identifier,
            account=differing.get(f"p{identifier}", account(True, address(identifier))),
        )
        for identifier in identifiers
    ]


def part(register: Register) -> pb.Comparison:
    """The next part to list."""
    [leased] = [
        each
        for each in lease_comparisons(register, "eboks", lists_accounts=True)
        if each.WhichOneof("subject") == "accounts_after"
    ]
    return leased


def report_part(register: Register, leased: pb.Comparison, accounts: list[Any], *, last: bool) -> None:
    report(register, leased, "eboks", accounts=pb.AccountsRead(accounts=accounts, is_last=last))


def test_parts_that_agree_end_the_sweep_and_nobody_is_read(
    register: Register, six: list[str], database: "Connection[Any]"
) -> None:
    before, sweep_id = contents(database), start(register, "eboks")

    report_part(register, part(register), listed(*six[:3]), last=False)
    leased = part(register)
    report_part(register, leased, listed(*six[3:]), last=True)

    assert leased.accounts_after.identifier == six[2]
    assert (state(register, sweep_id), kinds(register, sweep_id)) == ("FINISHED", [])
    assert sweep(register, sweep_id).compared_count == 6
    assert contents(database) == before


def test_who_differs_or_is_not_listed_is_read_before_anything_is_repaired(
    register: Register, six: list[str]
) -> None:
    sweep_id = start(register, "eboks")
    differing = {f"p{six[1]}": account(False, address(six[1]))}

    report_part(register, part(register), listed(*six[:4], **differing), last=True)
    read = lease_comparisons(register, "eboks", lists_accounts=True)

    assert sorted(each.identifier for each in read) == [six[1], six[4], six[5]]
    assert kinds(register, sweep_id) == []
    # The list was old: six[4] has an account.
    said = {six[1]: differing[f"p{six[1]}"], six[4]: account(True, address(six[4])), six[5]: NO_ACCOUNT}
    for each in read:
        report(register, each, "eboks", account=said[each.identifier])
    assert sorted(kinds(register, sweep_id)) == ["DOES_NOT_RECEIVE", "MAILBOX_GONE"]
    assert state(register, sweep_id) == "FINISHED"
    assert sweep(register, sweep_id).compared_count == 6


def test_who_could_not_be_listed_is_never_taken_for_absent(register: Register, six: list[str]) -> None:
    sweep_id = start(register, "eboks")

    for _ in range(6):
        report(register, part(register), "eboks", try_later=LATER)

    assert (state(register, sweep_id), kinds(register, sweep_id)) == ("RUNNING", [])


def test_an_account_of_nobody_or_with_an_impossible_address_holds_up_no_other(
    register: Register, six: list[str]
) -> None:
    start(register, "eboks")
    nobody = "99999999999"
    odd = {f"p{six[0]}": pb.AccountRead(receives_public_mail=True, mailbox_address="\0")}
    accounts = [*listed(*six, **odd), pb.ListedAccount(identifier=nobody, account=account(True))]

    report_part(register, part(register), accounts, last=True)

    read = lease_comparisons(register, "eboks", lists_accounts=True)
    assert [each.identifier for each in read] == [six[0]]


@pytest.mark.parametrize("order", [(1, 0), (1, 1)])
def test_a_part_that_does_not_rise_is_refused(
    register: Register, six: list[str], order: tuple[int, int]
) -> None:
    start(register, "eboks")

    with pytest.raises(RegisterError) as refused:
        report_part(register, part(register), listed(*(six[i] for i in order)), last=True)

    assert refused.value.reason == "INVALID_FIELD"


def test_a_part_that_begins_before_it_should_is_refused(register: Register, six: list[str]) -> None:
    start(register, "eboks")
    report_part(register, part(register), listed(*six[:3]), last=False)

    with pytest.raises(RegisterError) as refused:
        report_part(register, part(register), listed(*six[2:]), last=True)

    assert refused.value.reason == "INVALID_FIELD"


def test_an_adapter_that_lists_no_longer_reads_everybody_singly(register: Register, six: list[str]) -> None:
    sweep_id = start(register, "eboks")
    report(register, part(register), "eboks", try_later=LATER)

    read = lease_comparisons(register, "eboks")
    assert sorted(each.identifier for each in read) == six
    # Should it list again after all, the sweep goes on as it is.
    assert lease_comparisons(register, "eboks", lists_accounts=True) == []
    for each in read:
        report(register, each, "eboks", account=account(True, address(each.identifier)))
    assert lease_comparisons(register, "eboks") == []
    assert state(register, sweep_id) == "FINISHED"
