"""Citizens switch while operators fail and adapters are killed: both sides end as the register says.

A call that was given up, and one whose adapter was killed meanwhile, may take effect after the
citizen has switched again.
"""

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import krr_client
import pytest
from krr.v1 import admin_service_pb2 as admin
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import mailbox_operator_service_pb2 as operator
from krr.v1 import register_service_pb2 as reading

from tests.conftest import Register
from tests.e2e.parts import Parts, all_parts
from tests.open_folder import open_folder
from tests.people import DIGIPOST, EBOKS, register_request, request_id, synthetic_identifiers

pytestmark = pytest.mark.full_size_figures

CITIZENS = 4
SECONDS_BETWEEN_SWITCHES = 0.12
ADDRESSES = {DIGIPOST: "synthetic.person#1", EBOKS: "eboks-1234"}
NAMES = {DIGIPOST: "digipost", EBOKS: "eboks"}
# Seconds that one misfortune lasts, and that follow it.
LASTS, PAUSE = 0.7, 0.5
# Longer than an attempt may take, so that writes come after they were given up; all of them have
# come before the same operator's adapter is killed.
SLOW_SECONDS = 3.0
MISFORTUNES = (
    ("digipost", "kill"),
    ("digipost", "down"),
    ("eboks", "lose_answer"),
    ("eboks", "kill"),
    ("digipost", "slow"),
    ("eboks", "down"),
    ("digipost", "lose_answer"),
    ("eboks", "slow"),
)


@dataclass(frozen=True)
class Finished:
    """A run that has drained.

    chosen: the operator of each person's last acknowledged switch; told, what the register says.
    switched_on: who receives public mail, by operator.
    calls: spans of each adapter by name, and its deliveries that were done.
    """

    switches: int
    misfortunes: int
    seconds: float
    chosen: Mapping[str, str]
    told: Mapping[str, str]
    switched_on: Mapping[str, set[str]]
    calls: Mapping[str, Counter[str]]


@pytest.fixture(scope="module")
def finished(full_size: bool) -> Iterator[Finished]:
    switches, persons = (2000, 100) if full_size else (200, 20)
    everybody = list(itertools.islice(synthetic_identifiers(), persons))
    with open_folder() as folder:
        with all_parts(folder) as parts, ExitStack() as stack:
            began = time.monotonic()
            register = _callers(parts, stack)
            chosen = _open_accounts(parts, register, everybody)
            threads = [
                threading.Thread(
                    target=_switch_to_and_fro,
                    args=(register, everybody[number::CITIZENS], chosen, switches // CITIZENS, number),
                )
                for number in range(CITIZENS)
            ]
            for thread in threads:
                thread.start()
            misfortunes = _misfortunes(parts, threads)
            for thread in threads:
                thread.join()
            _wait_until_drained(register)
            seconds = time.monotonic() - began
            told = _told(register, everybody)
            switched_on = {number: _switched_on(parts, name) for number, name in NAMES.items()}
        # Ended parts have written all their spans.
        calls = {name: _calls(folder, name) for name in NAMES.values()}
    yield Finished(switches, misfortunes, seconds, chosen, told, switched_on, calls)


def test_the_register_has_every_acknowledged_switch(finished: Finished) -> None:
    assert finished.told == finished.chosen


@pytest.mark.parametrize("operator_number", [DIGIPOST, EBOKS])
def test_who_chose_an_operator_is_switched_on_there_and_nobody_else(
    finished: Finished, operator_number: str
) -> None:
    chose_it = {person for person, chosen in finished.chosen.items() if chosen == operator_number}

    assert finished.switched_on[operator_number] == chose_it


def test_the_calls_of_a_delivery_are_reported(finished: Finished) -> None:
    print(f"{finished.switches} switches, {finished.misfortunes} misfortunes, {finished.seconds:.0f} s")
    for name, calls in finished.calls.items():
        attempts, done = calls[f"deliver {name}"], calls["done"]
        requests = sum(count for span, count in calls.items() if span.startswith(f"{name} "))
        print(f"{name}: {attempts} attempts, {done} done, {requests} calls: {requests / done:.1f} a delivery")
        print(*(f"    {count} {span}" for span, count in sorted(calls.items())), sep="\n")

        assert calls["try_later"], "the misfortunes hit nothing"
        assert done


def _callers(parts: Parts, stack: ExitStack) -> Register:
    channels: dict[str, grpc.Channel] = {}
    lock = threading.Lock()

    def connect(caller: str) -> grpc.Channel:
        with lock:
            if caller not in channels:
                channels[caller] = stack.enter_context(
                    krr_client.connect(parts.register, f"Development {caller}")
                )
            return channels[caller]

    return Register(connect)


def _open_accounts(parts: Parts, register: Register, everybody: list[str]) -> dict[str, str]:
    """Everybody has both mailboxes, and has chosen Digipost."""
    for number, name in NAMES.items():
        accounts = [
            {"identifier": each, "address": ADDRESSES[number], "receives_public_mail": False}
            for each in everybody
        ]
        httpx.put(f"{parts.suppliers[name]}/sandbox/accounts", json=accounts).raise_for_status()
    for person in everybody:
        register.as_log_in_service().RegisterPerson(register_request(person, mobile=""))
        register.as_digipost().CreateAndChooseMailbox(
            operator.CreateAndChooseMailboxRequest(
                event_id=request_id(), identifier=person, address=ADDRESSES[DIGIPOST]
            )
        )
        register.as_eboks().CreateMailbox(
            operator.CreateMailboxRequest(event_id=request_id(), identifier=person, address=ADDRESSES[EBOKS])
        )
    return dict.fromkeys(everybody, DIGIPOST)


def _switch_to_and_fro(
    register: Register, persons: list[str], chosen: dict[str, str], switches: int, seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(switches):
        person = chance.choice(persons)
        other = EBOKS if chosen[person] == DIGIPOST else DIGIPOST
        register.as_citizen(person).ChooseMailbox(
            citizen.ChooseMailboxRequest(
                request_id=request_id(), identifier=person, operator_organisation_number=other
            )
        )
        chosen[person] = other
        time.sleep(chance.uniform(0.5, 1.5) * SECONDS_BETWEEN_SWITCHES)


def _misfortunes(parts: Parts, meanwhile: list[threading.Thread]) -> int:
    """One after another until those threads have ended; how many there were."""
    for count, (name, misfortune) in enumerate(itertools.cycle(MISFORTUNES)):
        if not any(thread.is_alive() for thread in meanwhile):
            return count
        if misfortune == "kill":
            parts.kill(name)
            time.sleep(LASTS)
        else:
            _behave(parts, name, misfortune)
            time.sleep(LASTS)
            _behave(parts, name, "normal")
        time.sleep(PAUSE)
    raise AssertionError


def _behave(parts: Parts, name: str, behaviour: str) -> None:
    order = {"behaviour": behaviour, "slow_seconds": SLOW_SECONDS}
    httpx.put(f"{parts.suppliers[name]}/sandbox/behaviour", json=order).raise_for_status()


def _wait_until_drained(register: Register) -> None:
    """As an administrator would, who does not wait for each delivery's next attempt."""
    staff, ends = register.as_administrator(), time.monotonic() + 60
    while time.monotonic() < ends:
        waiting = staff.ListDeliveries(admin.ListDeliveriesRequest()).deliveries
        if not waiting:
            return
        ids = [each.delivery_id for each in waiting]
        staff.RetryDeliveries(admin.RetryDeliveriesRequest(request_id=request_id(), delivery_ids=ids))
        time.sleep(0.5)
    raise AssertionError(f"never drained: {[(each.adapter, each.last_error_code) for each in waiting]}")


def _told(register: Register, everybody: list[str]) -> dict[str, str]:
    request = reading.LookUpPersonsRequest(identifiers=everybody, purpose=reading.PURPOSE_NOTICE)
    entries = register.as_public_body().LookUpPersons(request).entries
    return {each.person.identifier: each.person.mailbox.operator_organisation_number for each in entries}


def _switched_on(parts: Parts, name: str) -> set[str]:
    accounts = httpx.get(f"{parts.suppliers[name]}/sandbox/accounts").json()
    return {account["identifier"] for account in accounts if account["receives_public_mail"]}


def _calls(folder: Path, name: str) -> Counter[str]:
    """How many spans the adapter wrote, by name and by outcome; not those that a kill took along."""
    found: Counter[str] = Counter()
    for line in (folder / "traces" / f"adapter-{name}.jsonl").read_text().splitlines():
        try:
            span = json.loads(line)
        except ValueError:
            continue  # cut by a kill
        if span["name"].startswith((f"{name} ", f"deliver {name}")):
            found[span["name"]] += 1
            if "krr.outcome" in span["attributes"]:
                found[span["attributes"]["krr.outcome"]] += 1
    return found
