"""Digipost and e-Boks: neither reaches, nor learns of, what is the other's."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from krr.v1 import delivery_service_pb2, mailbox_event_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, OLA, request_id
from tests.server.database import contents
from tests.server.rpcs import RPCS, Rpcs
from tests.server.test_administration import lease
from tests.server.test_look_up import EMAIL, FRESH, MOBILE, contact, load
from tests.server.test_operator_writes import push
from tests.server.valid_requests import certificate, event_details

SERVICE = "MailboxOperatorService/"
BOTH_WAYS = pytest.mark.parametrize(("caller", "other"), [(EBOKS, DIGIPOST), (DIGIPOST, EBOKS)])
ADAPTERS = {DIGIPOST: "digipost", EBOKS: "eboks"}
MINE, SECRET = "an-address-of-mine", "the-address-of-the-other"

# What is one operator's, and who chose it.
OF_AN_OPERATOR = ("mailbox", "delivery", "mailbox_sequence", "mailbox_evidence", "certificate")


def choose(register: Register, operator: str, identifier: str, address: str, **fields: Any) -> None:
    load(register, identifier, **fields)
    answer = push(
        register,
        "CreateAndChooseMailbox",
        operator,
        identifier,
        address=address,
        certificate=certificate(),
        details=event_details(),
    )
    assert answer.result == pb.MAILBOX_RESULT_OK


def calls_about(identifier: str) -> Iterator[tuple[str, Any, str]]:
    """Every call of an operator's about a person who chose the other, and its published answer."""
    new: dict[str, Any] = {"identifier": identifier}
    mailbox: dict[str, Any] = {"address": MINE}
    yield "MayChooseMailbox", pb.MayChooseMailboxRequest(**new), "ALREADY_CHOSEN"
    for name, request, result in (
        ("UpdateMailbox", pb.UpdateMailboxRequest(**new, **mailbox), "NO_MAILBOX"),
        ("DeleteMailbox", pb.DeleteMailboxRequest(**new), "NO_MAILBOX"),
        ("ChooseMailbox", pb.MailboxOperatorServiceChooseMailboxRequest(**new), "ALREADY_CHOSEN"),
        ("CreateAndChooseMailbox", pb.CreateAndChooseMailboxRequest(**new, **mailbox), "ALREADY_CHOSEN"),
        ("CreateMailbox", pb.CreateMailboxRequest(**new, **mailbox), "OK"),
        ("ChooseMailbox", pb.MailboxOperatorServiceChooseMailboxRequest(**new), "ALREADY_CHOSEN"),
        ("UpdateMailbox", pb.UpdateMailboxRequest(**new, address=f"{MINE}-2"), "OK"),
        ("DeleteMailbox", pb.DeleteMailboxRequest(**new), "OK"),
    ):
        request.event_id = request_id()
        yield name, request, result
    content = mailbox_event_pb2.MailboxContent(address=MINE)
    # Not above what the other has counted: each counts by itself.
    pushed = mailbox_event_pb2.MailboxEvent(
        event_id=request_id(), **new, details=event_details(), create_and_choose=content
    )
    yield "PushEvents", pb.PushEventsRequest(events=[pushed]), "ALREADY_CHOSEN"
    for name in ("ListMailboxes", "WatchMailboxes"):
        yield name, getattr(pb, f"{name}Request")(), ""


def answers(rpcs: Rpcs, caller: str, identifier: str) -> list[tuple[str, Any, str]]:
    """Each call's name, response and published answer."""
    answered = []
    for name, request, result in calls_about(identifier):
        outcome = rpcs.call(SERVICE + name, request, f"operator/{caller}")
        assert outcome.response is not None, (name, outcome.told)
        answered.append((name, outcome.response, result))
    assert {SERVICE + name for name, _, _ in answered} == {rpc for rpc in RPCS if rpc.startswith(SERVICE)}
    return answered


def rows_of(database: "Connection[Any]", operator: str) -> dict[str, list[Any]]:
    rows = contents(database, OF_AN_OPERATOR)
    return {table: [row for row in found if operator in str(row)] for table, found in rows.items()}


@BOTH_WAYS
def test_no_call_of_one_changes_anything_of_the_others(
    register: Register, rpcs: Rpcs, database: "Connection[Any]", caller: str, other: str
) -> None:
    choose(register, other, OLA, SECRET, email=EMAIL)
    cursor = register.as_operator(other).ListMailboxes(pb.ListMailboxesRequest()).cursor
    before = rows_of(database, other)
    assert {table for table, rows in before.items() if rows} >= {"mailbox", "delivery", "mailbox_sequence"}

    answers(rpcs, caller, OLA)

    assert rows_of(database, other) == before
    heard = register.as_operator(other).ListMailboxes(pb.ListMailboxesRequest(after_cursor=cursor))
    assert not heard.mailboxes


@BOTH_WAYS
def test_an_answer_about_a_person_who_chose_the_other_is_the_published_code_and_no_more(
    register: Register, rpcs: Rpcs, caller: str, other: str
) -> None:
    choose(register, other, OLA, SECRET, email=EMAIL)
    about_ola = answers(rpcs, caller, OLA)
    # All that the caller may not know is different with her.
    kari = contact("kari@example.com", FRESH)
    choose(register, other, KARI, f"{SECRET}-of-kari", email=kari, mobile=MOBILE, language=1)
    about_kari = answers(rpcs, caller, KARI)

    for (name, of_ola, result), (_, of_kari, _) in zip(about_ola, about_kari, strict=True):
        told = shown_of(of_ola, OLA)
        assert told == shown_of(of_kari, KARI), name
        assert re.findall("MAILBOX_RESULT_([A-Z_]+)", told) == ([result] if result else []), name
        assert not [each for each in (other, SECRET, "example", MOBILE.value) if each in told], name


@BOTH_WAYS
def test_one_operators_adapter_gets_and_ends_no_work_of_the_others(
    register: Register, database: "Connection[Any]", caller: str, other: str
) -> None:
    choose(register, other, OLA, SECRET, email=EMAIL)

    assert not lease(register, ADAPTERS[caller])
    [leased] = lease(register, ADAPTERS[other])
    before = rows_of(database, other)
    for outcome in (
        {"done": delivery_service_pb2.DeliveryDone()},
        {"refused": delivery_service_pb2.DeliveryRefused(error_code="NO_ACCOUNT")},
        {"try_later": delivery_service_pb2.TryLater(error_code="HTTP_503")},
    ):
        with pytest.raises(RegisterError) as refusal:
            register.as_adapter(ADAPTERS[caller]).FinishDelivery(
                delivery_service_pb2.FinishDeliveryRequest(
                    delivery_id=leased.delivery_id, lease_token=leased.lease_token, **outcome
                )
            )
        assert refusal.value.reason == "LEASE_LOST"
    assert rows_of(database, other) == before


def shown_of(response: Any, identifier: str) -> str:
    """What the response says of the person, without what differs between any two calls."""
    shown = response
    if hasattr(response, "mailboxes"):
        # Of the person there is left what the caller itself reported and withdrew.
        [shown] = [box for box in response.mailboxes if box.identifier == identifier]
    return re.sub(r'(change_number|freshness_token|event_id|identifier): "?[^"\n]+"?', "", str(shown))
