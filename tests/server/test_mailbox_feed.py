"""ListMailboxes and WatchMailboxes: an operator hears all of its own mailboxes, and nothing else."""

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from server.__main__ import Server
from server.tokens import Tokens
from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, register_request
from tests.people import synthetic_identifiers as people
from tests.server.rpcs import Rpcs
from tests.server.test_changes import page as changes
from tests.server.test_citizen_writes import BOTH, write
from tests.server.test_look_up import EMAIL, FRESH, MAILBOX, RESERVED, contact, load
from tests.server.test_operator_writes import push
from tests.server.valid_requests import AT_DIGIPOST, AT_EBOKS, certificate
from tests.server.watching import watch_mailboxes

HOLDS = """
    SELECT person.identifier, mailbox.address, mailbox.chosen AND NOT person.reserved
    FROM mailbox JOIN person ON person.id = mailbox.person_id WHERE mailbox.operator = %s
"""


def page(
    register: Register, cursor: str = "", size: int = 0, operator: str = DIGIPOST
) -> pb.ListMailboxesResponse:
    request = pb.ListMailboxesRequest(after_cursor=cursor, page_size=size)
    return register.as_operator(operator).ListMailboxes(request)


def held(answer: Any) -> list[tuple[str, str, bool]]:
    return [(box.identifier, box.address, box.receives_public_mail) for box in answer.mailboxes]


def test_an_operator_reads_its_own_mailboxes_and_no_other(register: Register) -> None:
    der = certificate()
    load(register, OLA, email=EMAIL)
    push(register, "CreateAndChooseMailbox", DIGIPOST, certificate=der)
    push(register, "CreateMailbox", EBOKS, address="ola-nordmann-eboks")

    at_digipost, at_eboks = page(register), page(register, operator=EBOKS)

    assert held(at_digipost) == [(OLA, "ola.nordmann#9YDT", True)]
    assert at_digipost.mailboxes[0].certificate == der
    assert held(at_eboks) == [(OLA, "ola-nordmann-eboks", False)]
    assert at_digipost.caught_up
    assert at_eboks.caught_up


def test_loaded_persons_are_there_in_pages_of_any_size(register: Register) -> None:
    persons = list(islice(people(), 5))
    for number, identifier in enumerate(persons):
        load(register, identifier, email=contact(f"person{number}@example.com", FRESH), **BOTH)
    load(register, KARI, email=EMAIL)
    for size in (1, 2, 5, 1000):
        got, cursor, caught_up = [], "", False
        while not caught_up:
            answer = page(register, cursor, size)
            assert len(answer.mailboxes) <= size
            got += [box.identifier for box in answer.mailboxes]
            cursor, caught_up = answer.cursor, answer.caught_up
        assert got == persons
        assert page(register, cursor, size) == pb.ListMailboxesResponse(cursor=cursor, caught_up=True)


def test_an_operator_hears_at_once_of_all_that_concerns_its_mailbox(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    digipost, eboks = watch_mailboxes(rpcs, AT_DIGIPOST), watch_mailboxes(rpcs, AT_EBOKS)
    digipost.page()
    eboks.page()

    push(register, "CreateMailbox", DIGIPOST)
    assert held(digipost.page(1)) == [(OLA, "ola.nordmann#9YDT", False)]
    push(register, "CreateMailbox", EBOKS, address="ola-nordmann-eboks")
    assert held(eboks.page(1)) == [(OLA, "ola-nordmann-eboks", False)]
    push(register, "ChooseMailbox", DIGIPOST)
    assert held(digipost.page(1)) == [(OLA, "ola.nordmann#9YDT", True)]
    # The citizen switches: both hear.
    write(register, "ChooseMailbox", operator_organisation_number=EBOKS)
    assert held(digipost.page(1)) == [(OLA, "ola.nordmann#9YDT", False)]
    assert held(eboks.page(1)) == [(OLA, "ola-nordmann-eboks", True)]
    # Reserved, and back: only the chosen one hears.
    write(register, "Reserve")
    assert held(eboks.page(1)) == [(OLA, "ola-nordmann-eboks", False)]
    write(register, "CancelReservation")
    assert held(eboks.page(1)) == [(OLA, "ola-nordmann-eboks", True)]
    assert digipost.no_page(within=0.3)
    push(register, "DeleteMailbox", DIGIPOST)
    assert held(digipost.page(1)) == [(OLA, "", False)]
    write(register, "DeletePerson")
    assert held(eboks.page(1)) == [(OLA, "", False)]
    assert digipost.no_page(within=0.3)
    # Who comes back comes without a mailbox, and gets a new one.
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    push(register, "CreateAndChooseMailbox", DIGIPOST, address="ola.nordmann#0NEW")
    assert held(digipost.page(1)) == [(OLA, "ola.nordmann#0NEW", True)]
    assert eboks.no_page(within=0.3)


def test_an_operator_hears_nothing_of_contact_info_and_of_others_and_its_cursor_moves_on(
    register: Register, rpcs: Rpcs
) -> None:
    load(register, OLA, email=EMAIL, **MAILBOX)
    load(register, KARI, email=contact("kari@example.com", FRESH))
    watch = watch_mailboxes(rpcs)
    start = watch.page()
    assert held(start) == [(OLA, "ola.nordmann#9YDT", True)]

    write(register, "ConfirmContact")
    write(register, "SetLanguage", language=1)
    push(register, "CreateMailbox", EBOKS, address="ola-nordmann-eboks")
    push(register, "DeleteMailbox", EBOKS)
    push(register, "CreateAndChooseMailbox", EBOKS, KARI, address="kari-nordmann-eboks")
    write(register, "Reserve", KARI)
    load(register, NIELS, email=contact("niels@example.com", FRESH), **RESERVED)

    assert watch.no_page(within=0.5)
    for cursor in ("", start.cursor):
        answer = page(register, cursor)
        assert answer.caught_up
        assert held(answer) == ([] if cursor else held(start))
        assert answer.cursor != start.cursor
        assert not page(register, answer.cursor).mailboxes


def test_a_cursor_of_the_change_feed_or_of_the_future_is_refused(
    register: Register, server: Server, rpcs: Rpcs
) -> None:
    load(register, OLA, email=EMAIL, **MAILBOX)
    tokens = Tokens(server._store.epoch)

    for given, reason in (
        (changes(register).cursor, "INVALID_TOKEN"),
        (tokens.freshness(1), "INVALID_TOKEN"),
        (tokens.mailbox_cursor(2), "AHEAD_OF_REGISTER"),
    ):
        with pytest.raises(RegisterError) as refused:
            page(register, given)
        assert refused.value.reason == reason
        assert watch_mailboxes(rpcs, after_cursor=given).outcome().reason == reason


def test_a_watchers_copy_equals_the_table_after_random_writes_at_once(
    register: Register, rpcs: Rpcs, database: "Connection[Any]"
) -> None:
    persons = list(islice(people(), 8))
    for number, identifier in enumerate(persons):
        load(register, identifier, email=contact(f"person{number}@example.com", FRESH))
    watches = {
        operator: [watch_mailboxes(rpcs, f"operator/{operator}", page_size=size) for size in (1, 3, 1000)]
        for operator in (DIGIPOST, EBOKS)
    }

    def write_at_random(seed: int) -> None:
        chance = random.Random(seed)
        for step in range(25):
            identifier, operator = chance.choice(persons), chance.choice((DIGIPOST, EBOKS))
            address = {"address": f"address{step}{seed}#{operator[:4]}"}
            kind = chance.randrange(8)
            if kind < 4:
                verbs = ("CreateMailbox", "ChooseMailbox", "CreateAndChooseMailbox", "DeleteMailbox")
                push(
                    register,
                    verbs[kind],
                    operator,
                    identifier,
                    **(address if "Create" in verbs[kind] else {}),
                )
                continue
            request: dict[str, Any] = {"operator_organisation_number": operator} if kind > 5 else {}
            name = ("Reserve", "CancelReservation", "ChooseMailbox", "ChooseMailbox")[kind - 4]
            try:
                write(register, name, identifier, **request)
            except RegisterError as refused:
                assert refused.reason in ("RESERVED", "NO_MAILBOX")

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write_at_random, seed) for seed in range(4)]:
            done.result()

    for operator, of_operator in watches.items():
        table = {row[0]: (row[1], row[2]) for row in database.execute(HOLDS, (operator,)).fetchall()}
        last = page(register, operator=operator).mailboxes[-1].change_number
        for watch in of_operator:
            copy: dict[str, tuple[str, bool]] = {}
            number = 0
            while number < last:
                for box in watch.page().mailboxes:
                    assert box.change_number > number
                    number = box.change_number
                    copy[box.identifier] = (box.address, box.receives_public_mail)
            assert {identifier: box for identifier, box in copy.items() if box[0]} == table


def test_an_unknown_operator_is_turned_away(rpcs: Rpcs) -> None:
    for outcome in (
        rpcs.call("MailboxOperatorService/ListMailboxes", caller="operator/991825827"),
        rpcs.call("MailboxOperatorService/WatchMailboxes", caller="operator/991825827"),
    ):
        assert outcome.reason == "CALLER_NOT_ALLOWED"


def test_a_wait_ends_with_the_first_change_of_a_mailbox_and_not_with_others(
    register: Register, rpcs: Rpcs
) -> None:
    load(register, OLA, email=EMAIL)
    cursor = page(register).cursor
    request = pb.ListMailboxesRequest(after_cursor=cursor)
    request.wait.FromSeconds(8)
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(rpcs.call, "MailboxOperatorService/ListMailboxes", request, AT_DIGIPOST)
        for _ in range(5):
            write(register, "ConfirmContact")
        assert not polling.done()
        push(register, "CreateMailbox", DIGIPOST)
        assert held(polling.result(timeout=2).response) == [(OLA, "ola.nordmann#9YDT", False)]
