"""Operators whose side comes to differ: a sweep finds exactly that, and both sides end as they should.

An adapter and the server are killed on the way.
"""

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice

import krr_client
import pytest
from krr.v1 import sweep_pb2 as pb
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr_cli.synthetic_identifiers import synthetic_identifiers
from typer.testing import Result

from tests.clients.command_line import krr_at
from tests.e2e.both_sides import BothSides, Snapshot, Swept
from tests.e2e.disturbed_operators import (
    NAMES,
    Account,
    Person,
    Planted,
    accounts_in_step,
    disturb,
    some_persons,
    switch_all,
)
from tests.e2e.parts import all_parts
from tests.open_folder import open_folder
from tests.people import DIGIPOST
from tests.server.database import connect

pytestmark = pytest.mark.full_size_figures

# Persons, and at how many of them an operator differs: some to be repaired without a question, and
# far too many.
FULL_SIZE, SHORT = (10_000, 100, 1_000), (200, 7, 25)


@dataclass(frozen=True)
class Finished:
    """All sweeps, by operator where one was made of each.

    wrong: accounts that differed, when too many did.
    """

    persons: dict[str, Person]
    planted: dict[str, Planted]
    disturbed: Snapshot
    dry: dict[str, Swept]
    after_dry: Snapshot
    repairing: dict[str, Swept]
    audited: set[tuple[str, str]]
    repaired: Snapshot
    again: dict[str, Swept]
    wrong: dict[str, dict[str, Account]]
    stopped: dict[str, Result]
    after_stop: Snapshot
    resumed: dict[str, Result]
    at_the_end: Snapshot
    written: list[tuple[str, str]]


@pytest.fixture(scope="module")
def finished(full_size: bool) -> Iterator[Finished]:
    count, some, too_many = FULL_SIZE if full_size else SHORT
    chance = random.Random(0)
    persons = some_persons(list(islice(synthetic_identifiers(chance), count)))
    with open_folder() as folder, all_parts(folder) as parts, ExitStack() as stack:
        channel = stack.enter_context(krr_client.connect(parts.register, "Development administrator/test"))
        database = stack.enter_context(connect(parts.database_url))
        sides = BothSides(parts, AdminServiceStub(channel), database)
        sides.load(persons)

        taken: set[str] = set()
        planted = {each: disturb(chance, persons, each, some, taken) for each in NAMES}
        for operator, what in planted.items():
            sides.put(operator, what.accounts)
        disturbed = sides.snapshot()
        dry = sides.sweep_both(dry_run=True)
        after_dry = sides.snapshot()

        began = {operator: sides.start(operator) for operator in NAMES}
        _kill_on_the_way(sides, began[DIGIPOST], count)
        repairing = {operator: sides.swept(sweep_id) for operator, sweep_id in began.items()}
        sides.wait_until_delivered()
        repaired = sides.snapshot()
        audited = sides.audited()
        again = sides.sweep_both()

        wrong = {each: switch_all(chance, persons, each, too_many) for each in NAMES}
        for operator, accounts in wrong.items():
            sides.put(operator, accounts)
        krr = krr_at(int(parts.register.rpartition(":")[2]))
        stopped = {operator: krr("reconcile", name, "--json") for operator, name in NAMES.items()}
        sides.wait_until_delivered()
        after_stop = sides.snapshot()
        resumed = {operator: krr("reconcile", name, "--cap", str(count)) for operator, name in NAMES.items()}
        sides.wait_until_delivered()
        at_the_end = sides.snapshot()
        yield Finished(
            persons,
            planted,
            disturbed,
            dry,
            after_dry,
            repairing,
            audited,
            repaired,
            again,
            wrong,
            stopped,
            after_stop,
            resumed,
            at_the_end,
            list(parts.written()),
        )


each_operator = pytest.mark.parametrize("operator", NAMES)


@each_operator
def test_a_dry_run_lists_all_that_differs_and_changes_nothing(finished: Finished, operator: str) -> None:
    dry = finished.dry[operator]

    assert set(dry.found) == finished.planted[operator].differences
    assert {each.not_repaired_reason for each in dry.found.values()} == {pb.NOT_REPAIRED_REASON_DRY_RUN}
    assert (dry.sweep.state, dry.sweep.repaired_count) == (pb.SWEEP_STATE_FINISHED, 0)
    assert finished.after_dry == finished.disturbed


@each_operator
def test_a_sweep_finds_exactly_what_differs_and_repairs_it(finished: Finished, operator: str) -> None:
    swept, planted = finished.repairing[operator], finished.planted[operator]

    assert set(swept.found) == planted.differences
    assert all(each.repaired for each in swept.found.values())
    sweep, count = swept.sweep, len(finished.persons)
    assert (sweep.state, sweep.person_count, sweep.unread_count) == (pb.SWEEP_STATE_FINISHED, count, 0)
    # Whom a sweep of the other operator changed meanwhile is compared once more.
    changed = sum(len(each.kinds) for each in finished.planted.values())
    assert count <= sweep.compared_count <= count + changed
    assert sweep.difference_count == sweep.repaired_count == len(planted.differences)


def test_the_register_then_has_the_mailboxes_that_the_operators_have(finished: Finished) -> None:
    assert finished.repaired.mailboxes == {
        (identifier, operator, address, operator == person.chosen)
        for identifier, person in finished.persons.items()
        for operator, address in person.mailboxes.items()
    }


@each_operator
def test_the_operator_then_receives_the_mail_of_those_who_chose_it(finished: Finished, operator: str) -> None:
    assert finished.repaired.accounts[operator] == _in_step(finished, operator)


def test_nobody_changes_but_who_is_repaired_and_each_of_these_once(finished: Finished) -> None:
    planted = {person for each in finished.planted.values() for person in each.kinds}
    before, after = finished.disturbed.change_numbers, finished.repaired.change_numbers

    assert {person for person in after if after[person] != before[person]} == planted
    assert max(after.values()) == max(before.values()) + len(planted)


def test_every_repair_stands_in_the_history_of_its_person_and_nothing_else_does(finished: Finished) -> None:
    planted = {person for each in finished.planted.values() for person in each.kinds}

    assert {person for person, _ in finished.audited} == planted


@each_operator
def test_the_next_sweep_finds_nothing(finished: Finished, operator: str) -> None:
    again = finished.again[operator]

    assert (again.sweep.state, again.found) == (pb.SWEEP_STATE_FINISHED, {})
    assert again.sweep.compared_count == len(finished.persons)


@each_operator
def test_a_sweep_stops_at_its_cap_and_says_so(finished: Finished, operator: str) -> None:
    result, wrong = finished.stopped[operator], finished.wrong[operator]
    sweep, *differences = map(json.loads, result.stdout.splitlines())
    cap = max(10, 2 * len(finished.persons) // 100)

    assert (result.exit_code, sweep["state"]) == (5, "SWEEP_STATE_STOPPED_AT_CAP")
    assert int(sweep["max_repairs"]) == int(sweep["repaired_count"]) == cap
    assert sum(each["repaired"] for each in differences) == cap
    left = {each["not_repaired_reason"] for each in differences if not each["repaired"]}
    assert left == {"NOT_REPAIRED_REASON_CAP"}
    in_step, accounts = _in_step(finished, operator), finished.after_stop.accounts[operator]
    still_wrong = {person for person, account in accounts.items() if account != in_step[person]}
    assert still_wrong < set(wrong)
    assert len(still_wrong) == len(wrong) - cap


@each_operator
def test_a_sweep_with_a_higher_cap_repairs_the_rest(finished: Finished, operator: str) -> None:
    result = finished.resumed[operator]

    assert (result.exit_code, ", 0 left; finished " in result.stdout) == (0, True)
    assert finished.at_the_end.accounts[operator] == _in_step(finished, operator)
    assert finished.at_the_end.mailboxes == finished.repaired.mailboxes


def test_nothing_personal_was_written_anywhere(finished: Finished) -> None:
    files = dict(finished.written)
    assert {"server.log", "server.jsonl", "digipost.log", "eboks.log"} <= set(files)
    some = [person for planted in finished.planted.values() for person in planted.kinds]
    for name, text in files.items():
        assert not any(identifier in text for identifier in some), name
        assert "synthetic.person#" not in text, name


def _in_step(finished: Finished, operator: str) -> dict[str, Account]:
    accounts = accounts_in_step(finished.persons, operator)
    # Who is no longer in the register keeps an account, and receives no public mail there.
    for person, account in finished.planted[operator].accounts.items():
        if account and finished.persons[person].deleted:
            accounts[person] = Account(account.address, receives=False)
    return accounts


def _kill_on_the_way(sides: BothSides, sweep_id: int, count: int) -> None:
    for part, compared in (("digipost", count // 4), ("server", count // 2)):
        sweep = sides.wait_for(sweep_id, compared)
        assert sweep.state == pb.SWEEP_STATE_RUNNING, "nothing was left to be disturbed"
        sides.parts.kill(part)
        sides.parts.wait_until_serving()
