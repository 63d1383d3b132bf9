"""ListChanges: everything is seen, in order, and only caught_up says that it was."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from google.protobuf.duration_pb2 import Duration
from krr.v1 import citizen_service_pb2, person_pb2
from krr.v1 import register_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from server.__main__ import Server
from server.config import Settings
from server.tokens import Tokens
from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.rpcs import Rpcs
from tests.server.test_look_up import EMAIL, FRESH, MAILBOX, OLD_MOBILE, RESERVED, contact, load
from tests.server.valid_requests import PUBLIC


def page(register: Register, cursor: str = "", size: int = 0) -> pb.ListChangesResponse:
    return register.as_public_body().ListChanges(pb.ListChangesRequest(after_cursor=cursor, page_size=size))


def seen(answer: pb.ListChangesResponse) -> list[tuple[str, int]]:
    return [(person.identifier, person.change_number) for person in answer.persons]


def update(register: Register, identifier: str, email: str) -> person_pb2.WriteAnswer:
    request = citizen_service_pb2.UpdateContactRequest(
        request_id=request_id(), identifier=identifier, email=email
    )
    request.update_mask.paths.append("email")
    return register.as_citizen(identifier).UpdateContact(request).answer


def test_an_empty_register_is_caught_up_at_once_and_still_gives_a_cursor(register: Register) -> None:
    empty = page(register)

    assert not empty.persons
    assert empty.caught_up
    load(register, OLA, email=EMAIL)
    assert seen(page(register, empty.cursor)) == [(OLA, 1)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pages_of_any_size_give_each_person_once_by_rising_change_number(
    register: Register, size: int
) -> None:
    persons = list(islice(people(), 7))
    for number, identifier in enumerate(persons):
        # Not the same address: the register would then make changes of its own.
        load(register, identifier, email=contact(f"person{number}@example.com", FRESH))
    got, cursor, pages = [], "", 0

    while True:
        answer = page(register, cursor, size)
        pages += 1
        got += seen(answer)
        cursor = answer.cursor
        assert len(answer.persons) <= size
        if answer.caught_up:
            break

    assert got == list(zip(persons, range(1, 8), strict=True))
    assert pages == 7 // size + 1
    assert page(register, cursor, size) == pb.ListChangesResponse(cursor=cursor, caught_up=True)


def test_a_page_that_is_exactly_full_does_not_claim_to_be_the_last(register: Register) -> None:
    load(register, OLA, email=EMAIL)
    load(register, KARI, email=EMAIL)

    full = page(register, size=2)
    after = page(register, full.cursor, size=2)

    assert seen(full) == [(OLA, 1), (KARI, 2)]
    assert not full.caught_up
    assert not after.persons
    assert after.caught_up
    assert after.cursor == full.cursor


def test_who_changed_while_a_reader_paged_is_seen_again_and_nobody_is_missed(register: Register) -> None:
    for identifier in (OLA, KARI, NIELS):
        load(register, identifier, email=EMAIL)
    first = page(register, size=2)

    update(register, OLA, "ola@example.org")
    update(register, OLA, "ola@example.net")
    rest = page(register, first.cursor)

    assert seen(first) == [(OLA, 1), (KARI, 2)]
    assert seen(rest) == [(NIELS, 3), (OLA, 5)]
    assert rest.persons[1].email.value == "ola@example.net"


def test_a_deleted_person_is_a_tombstone_and_a_reserved_one_who_deletes_stays(register: Register) -> None:
    load(register, OLA, email=EMAIL, **MAILBOX)
    load(register, KARI, email=EMAIL, **RESERVED, **MAILBOX)
    start = page(register).cursor

    for identifier in (OLA, KARI):
        register.as_citizen(identifier).DeletePerson(
            citizen_service_pb2.DeletePersonRequest(request_id=request_id(), identifier=identifier)
        )

    ola, kari = page(register, start).persons
    assert ola == person_pb2.Person(
        identifier=OLA,
        status=person_pb2.PERSON_STATUS_DELETED,
        deletion_reason=person_pb2.DELETION_REASON_OWN_CHOICE,
        change_number=3,
    )
    assert kari.status == person_pb2.PERSON_STATUS_ACTIVE
    assert kari.reservation == person_pb2.RESERVATION_RESERVED
    assert not kari.HasField("email")
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    _, again = page(register, start).persons
    assert again.identifier == OLA
    assert again.status == person_pb2.PERSON_STATUS_ACTIVE


def test_expired_values_are_given_and_the_mailbox_of_a_reserved_person_is_not(register: Register) -> None:
    load(register, OLA, mobile=OLD_MOBILE, **MAILBOX)
    load(register, KARI, email=EMAIL, **RESERVED, **MAILBOX)

    ola, kari = page(register).persons

    assert ola.mobile.value == OLD_MOBILE.value
    assert ola.mobile.HasField("usable_until_time")
    assert ola.mailbox.operator_organisation_number == DIGIPOST
    assert not kari.HasField("mailbox")


def test_a_refused_write_is_no_change(register: Register) -> None:
    load(register, OLA, email=EMAIL)
    cursor = page(register).cursor

    with pytest.raises(RegisterError):
        register.as_citizen(OLA).ChooseMailbox(
            citizen_service_pb2.ChooseMailboxRequest(
                request_id=request_id(), identifier=OLA, operator_organisation_number=EBOKS
            )
        )

    assert not page(register, cursor).persons


def test_a_cursor_that_this_register_did_not_give_is_refused(register: Register, server: Server) -> None:
    load(register, OLA, email=EMAIL)
    tokens, cursor = Tokens(server._store.epoch), page(register).cursor

    for given, reason in (
        (tokens.cursor(2), "AHEAD_OF_REGISTER"),
        (tokens.cursor(2**63 - 1), "AHEAD_OF_REGISTER"),
        (tokens.cursor(2**63), "INVALID_TOKEN"),
        (Tokens(uuid4()).cursor(1), "FEED_RESET"),
        (Tokens(UUID(int=0)).cursor(0), "FEED_RESET"),
        (tokens.freshness(1), "INVALID_TOKEN"),
        (tokens.page(1), "INVALID_TOKEN"),
        (cursor[:10] + ("B" if cursor[10] == "A" else "A") + cursor[11:], "INVALID_TOKEN"),
        (cursor[:-1], "INVALID_TOKEN"),
        (cursor + cursor, "INVALID_TOKEN"),
        (f" {cursor}", "INVALID_TOKEN"),
        ("0", "INVALID_TOKEN"),
        ("å", "INVALID_TOKEN"),
    ):
        with pytest.raises(RegisterError) as refused:
            page(register, given)
        assert refused.value.reason == reason, given
    assert page(register, cursor).caught_up


def test_the_freshness_token_of_a_write_is_no_cursor(register: Register) -> None:
    token = load(register, OLA, email=EMAIL)

    with pytest.raises(RegisterError) as refused:
        page(register, token)

    assert refused.value.reason == "INVALID_TOKEN"


def test_a_register_put_back_to_an_earlier_state_refuses_the_cursor_that_saw_more(
    register: Register, database: "Connection[Any]"
) -> None:
    load(register, OLA, email=EMAIL)
    cursor = page(register).cursor
    database.execute("DELETE FROM person")
    database.execute("UPDATE register SET last_change_number = 0")

    with pytest.raises(RegisterError) as refused:
        page(register, cursor)

    assert refused.value.reason == "AHEAD_OF_REGISTER"


def test_a_page_size_outside_1_to_1000_is_refused(register: Register) -> None:
    for size in (-1, 1001, 2**31 - 1):
        with pytest.raises(RegisterError) as refused:
            page(register, size=size)
        assert refused.value.fields == (("page_size", "1 to 1000"),)


def poll(
    register: Register, cursor: str, seconds: float, timeout: float | None = None
) -> tuple[pb.ListChangesResponse, float]:
    """The page after the wait, and how long it took."""
    wait = Duration()
    wait.FromMilliseconds(int(seconds * 1000))
    began = time.monotonic()
    answer = register.as_public_body().ListChanges(
        pb.ListChangesRequest(after_cursor=cursor, wait=wait), timeout=timeout
    )
    return answer, time.monotonic() - began


def test_a_wait_ends_with_the_first_change(register: Register) -> None:
    load(register, OLA, email=EMAIL)
    cursor = page(register).cursor
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(poll, register, cursor, 8)
        time.sleep(0.5)
        update(register, OLA, "ola@example.org")
        answer, took = polling.result()

    assert seen(answer) == [(OLA, 2)]
    assert answer.caught_up
    assert 0.4 < took < 2


def test_a_page_that_is_there_is_not_waited_for(register: Register) -> None:
    load(register, OLA, email=EMAIL)

    answer, took = poll(register, "", 8)

    assert seen(answer) == [(OLA, 1)]
    assert took < 2


def test_a_wait_in_vain_ends_in_time_with_an_empty_page_and_reads_in_moderation(
    register: Register, database: "psycopg.Connection[Any]", statements: list[str]
) -> None:
    load(register, OLA, email=EMAIL)
    cursor = page(register).cursor
    # A number that no person bears, as where the last one who changed was removed.
    database.execute("UPDATE register SET last_change_number = 9")
    statements.clear()
    answer, took = poll(register, cursor, 1)

    assert answer == pb.ListChangesResponse(cursor=cursor, caught_up=True)
    assert 0.9 < took < 2
    assert len(statements) < 10


def test_a_wait_ends_a_second_before_the_callers_deadline(register: Register) -> None:
    answer, took = poll(register, "", 20, timeout=1.6)
    assert answer.caught_up
    assert 0.4 < took < 1.4
    answer, took = poll(register, "", 20, timeout=0.9)
    assert answer.caught_up
    assert took < 0.6


def test_a_wait_below_0_or_above_30_seconds_is_refused(register: Register) -> None:
    for seconds in (-0.001, -1, 30.001, 3600):
        with pytest.raises(RegisterError) as refused:
            poll(register, "", seconds)
        assert [field for field, _ in refused.value.fields] == ["wait"]


def test_who_waits_is_told_when_the_server_ends(settings: Settings) -> None:
    server = Server(settings)
    rpcs = Rpcs(f"127.0.0.1:{server.port}")
    request = pb.ListChangesRequest(wait=Duration(seconds=20))
    with ThreadPoolExecutor(2) as pool:
        polling = pool.submit(rpcs.call, "RegisterService/ListChanges", request, PUBLIC)
        time.sleep(0.3)
        began = time.monotonic()
        server.end()
        outcome = polling.result()

    assert outcome.reason == "SERVER_ENDING"
    assert outcome.retry_after
    assert time.monotonic() - began < 4
    rpcs.close()
