"""The register and both operators, as its staff and a test see them."""

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import httpx
import psycopg
from krr.v1 import admin_service_pb2 as admin
from krr.v1 import sweep_pb2 as pb
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from tests.e2e.disturbed_operators import NAMES, Account, Person, accounts_in_step, to_load
from tests.e2e.parts import Parts
from tests.people import request_id

_LONGEST_SECONDS = 900


@dataclass(frozen=True)
class Swept:
    """A sweep at its end.

    found: who differs in what, and whether it was repaired.
    """

    sweep: pb.Sweep
    found: dict[tuple[str, int], pb.Difference]


@dataclass(frozen=True)
class Snapshot:
    """Both sides at one moment.

    change_numbers: by person.
    mailboxes: person, operator, address and whether it is chosen.
    accounts: by operator and person.
    """

    change_numbers: dict[str, int]
    mailboxes: set[tuple[str, str, str, bool]]
    accounts: dict[str, dict[str, Account]]


class BothSides:
    """The register and both operators, as staff and test see them."""

    def __init__(self, parts: Parts, staff: AdminServiceStub, database: "psycopg.Connection[Any]") -> None:
        self.parts = parts
        self.staff = staff
        self.database = database

    def load(self, persons: dict[str, Person]) -> None:
        """Put them into the register and their accounts at both operators, in step."""
        rest = iter(persons.items())
        while some := [to_load(*each) for each in islice(rest, 1000)]:
            self.staff.LoadPersons(admin.LoadPersonsRequest(request_id=request_id(), persons=some))
        for operator in NAMES:
            self.put(operator, accounts_in_step(persons, operator))

    def put(self, operator: str, accounts: dict[str, Account] | dict[str, Account | None]) -> None:
        """Set accounts at the operator, behind the register's back; None removes one."""
        url = f"{self.parts.suppliers[NAMES[operator]]}/sandbox/accounts"
        there = [
            {"identifier": each, "address": account.address, "receives_public_mail": account.receives}
            for each, account in accounts.items()
            if account
        ]
        gone = [each for each, account in accounts.items() if account is None]
        httpx.put(url, json=there, timeout=60).raise_for_status()
        httpx.request("DELETE", url, json=gone, timeout=60).raise_for_status()

    def snapshot(self) -> Snapshot:
        rows = self.database.execute("SELECT identifier, change_number FROM person").fetchall()
        mailboxes = self.database.execute(
            "SELECT identifier, operator, address, chosen FROM person JOIN mailbox ON person_id = person.id"
        ).fetchall()
        accounts = {}
        for operator, name in NAMES.items():
            listed = httpx.get(f"{self.parts.suppliers[name]}/sandbox/accounts", timeout=60).json()
            accounts[operator] = {
                each["identifier"]: Account(each["address"], each["receives_public_mail"]) for each in listed
            }
        return Snapshot(dict(rows), set(mailboxes), accounts)

    def start(self, operator: str, *, dry_run: bool = False) -> int:
        return self.staff.StartSweep(
            pb.StartSweepRequest(request_id=request_id(), adapter=NAMES[operator], dry_run=dry_run)
        ).sweep_id

    def sweep_both(self, *, dry_run: bool = False) -> dict[str, Swept]:
        began = {operator: self.start(operator, dry_run=dry_run) for operator in NAMES}
        return {operator: self.swept(sweep_id) for operator, sweep_id in began.items()}

    def wait_for(self, sweep_id: int, compared: int) -> pb.Sweep:
        """Return the sweep when so many were compared or it has ended."""
        ends = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < ends:
            sweep = self.staff.GetSweep(pb.GetSweepRequest(sweep_id=sweep_id)).sweep
            if sweep.state != pb.SWEEP_STATE_RUNNING or sweep.compared_count >= compared:
                return sweep
            time.sleep(0.1)
        raise AssertionError(f"never ended: {sweep}")

    def swept(self, sweep_id: int) -> Swept:
        """The sweep at its end. Meanwhile nobody may change of whom it found a difference."""
        sweep = self.wait_for(sweep_id, 10**9)
        seconds = (sweep.ended_time.ToDatetime() - sweep.started_time.ToDatetime()).total_seconds()
        print(f"{sweep.adapter}: {sweep.compared_count} compared in {seconds:.1f} s")
        found = {}
        request = pb.ListDifferencesRequest(sweep_id=sweep_id, page_size=1000)
        while True:
            page = self.staff.ListDifferences(request)
            for each in page.differences:
                key = (self._who_has(each.change_number), int(each.kind))
                assert key not in found
                found[key] = each
            if not page.next_page_token:
                return Swept(sweep, found)
            request.page_token = page.next_page_token

    def wait_until_delivered(self) -> None:
        ends = time.monotonic() + 300
        while waiting := self.staff.ListDeliveries(admin.ListDeliveriesRequest()).deliveries:
            assert time.monotonic() < ends, [(each.adapter, each.last_error_code) for each in waiting]
            time.sleep(0.2)

    def audited(self) -> set[tuple[str, str]]:
        """Person and field of everything that reconciliation has done."""
        rows = self.database.execute(
            "SELECT identifier, field FROM history JOIN person ON person.id = person_id"
            " WHERE caller_kind = 'reconciliation'"
        ).fetchall()
        return set(rows)

    def _who_has(self, change_number: int) -> str:
        [(identifier,)] = self.database.execute(
            "SELECT identifier FROM person WHERE change_number = %s", [change_number]
        ).fetchall()
        return str(identifier)
