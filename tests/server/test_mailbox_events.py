"""PushEvents: what an operator's events do, in which order they count, and how each is answered."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import admin_service_pb2, mailbox_event_pb2, person_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from server.store.mailbox_events import apply_events
from tests.conftest import Register
from tests.mailbox_events import CHOICE, NO_CERTIFICATE, REMOVAL, content, event
from tests.people import DIGIPOST, EBOKS, KARI, OLA, PUBLIC_BODY, register_request, request_id
from tests.server.database import contents
from tests.server.pushing import PUSH, Push, pushed, result, results
from tests.server.rpcs import Rpcs
from tests.server.test_citizen_writes import own_entry
from tests.server.test_look_up import EMAIL, MAILBOX, RESERVED, load
from tests.server.valid_requests import AT_DIGIPOST, AT_EBOKS, certificate, event_details, time_ago

ADDRESS, OTHER = content("ola.nordmann#9YDT"), content("ola.nordmann#0AAA")
UNCHOSEN = {"email": EMAIL, "mailboxes": MAILBOX["mailboxes"]}


def addresses(register: Register) -> dict[str, str]:
    """Ola's mailbox address at each operator."""
    boxes = [own.mailbox for own in own_entry(register).mailboxes]
    return {box.operator_organisation_number: box.address for box in boxes}


def chosen(register: Register) -> list[str]:
    own = own_entry(register).mailboxes
    return [each.mailbox.operator_organisation_number for each in own if each.chosen]


def test_each_event_does_what_its_call_does_and_is_acknowledged_in_order(
    register: Register, rpcs: Rpcs
) -> None:
    load(register, OLA, email=EMAIL)
    with_certificate = content("ola.nordmann#9YDT", certificate())
    events = [
        event(sequence=1, create=ADDRESS),
        event(sequence=2, choose=CHOICE),
        event(sequence=3, update=with_certificate),
        event(sequence=4, delete=REMOVAL),
        event(sequence=5, create_and_choose=OTHER),
    ]
    push = Push(rpcs)

    push.send(*events[:2])
    push.send(events[2])
    acknowledged = push.acknowledgements(3)
    assert own_entry(register).person.mailbox.certificate == with_certificate.certificate
    push.send(*events[3:])
    acknowledged += push.acknowledgements(2)
    push.close()

    assert [each.event_id for each in acknowledged] == [each.event_id for each in events]
    assert results(each.answer for each in acknowledged) == "OK OK OK OK OK"
    numbers = [each.answer.change_number for each in acknowledged]
    assert numbers == [2, 3, 4, 5, 6]
    assert own_entry(register).person.change_number == 6
    assert (addresses(register), chosen(register)) == ({DIGIPOST: OTHER.address}, [DIGIPOST])
    assert push.watch.outcome().code.name == "OK"


def test_the_same_event_again_gets_the_first_answer_marked_duplicate(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    created, refused = event(sequence=1, create=ADDRESS), event(sequence=2, create=OTHER)
    removed = event(sequence=3, delete=REMOVAL)

    first = pushed(rpcs, [created, refused, removed])
    again = pushed(rpcs, [removed, created, created, refused])

    assert results(first) == "OK MAILBOX_EXISTS OK"
    assert not any(answer.duplicate for answer in first)
    assert all(answer.duplicate for answer in again)
    for answer in again:
        answer.duplicate = False
    assert again == [first[2], first[0], first[0], first[1]]
    assert addresses(register) == {}


def test_an_event_id_with_another_body_is_refused_and_free_for_another_operator(
    register: Register, rpcs: Rpcs
) -> None:
    load(register, OLA, email=EMAIL)
    created = event(sequence=1, create=ADDRESS)
    # Differs by nothing but what is information only.
    later = event(sequence=1, event_id=created.event_id, create=ADDRESS)
    later.details.occurred_time.CopyFrom(time_ago(days=1))

    answers = pushed(rpcs, [created, event(sequence=2, event_id=created.event_id, delete=REMOVAL), later])

    assert results(answers) == "OK EVENT_ID_REUSED EVENT_ID_REUSED"
    assert addresses(register) == {DIGIPOST: ADDRESS.address}
    [elsewhere] = pushed(rpcs, [created], AT_EBOKS)
    assert (result(elsewhere), elsewhere.duplicate) == ("OK", False)


def test_an_event_id_from_a_single_call_has_another_body_in_a_stream_and_the_other_way_round(
    register: Register, rpcs: Rpcs
) -> None:
    load(register, OLA, email=EMAIL)
    one, other = request_id(), request_id()

    def create(event_id: str) -> pb.CreateMailboxResponse:
        request = pb.CreateMailboxRequest(event_id=event_id, identifier=OLA, address=ADDRESS.address)
        return register.as_digipost().CreateMailbox(request)

    assert result(create(one).answer) == "OK"
    events = [event(event_id=each, create=ADDRESS) for each in (one, other)]
    assert results(pushed(rpcs, events)) == "EVENT_ID_REUSED OK"
    with pytest.raises(RegisterError) as refused:
        create(other)
    assert refused.value.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "late", [{"create": OTHER}, {"update": OTHER}, {"choose": CHOICE}, {"delete": REMOVAL}]
)
def test_a_sequence_not_above_the_last_applied_is_outdated_and_not_applied(
    register: Register, rpcs: Rpcs, database: "Connection[Any]", late: dict[str, Any]
) -> None:
    load(register, OLA, email=EMAIL)
    assert results(pushed(rpcs, [event(sequence=7, create=ADDRESS)])) == "OK"
    before = contents(database)

    assert results(pushed(rpcs, [event(sequence=number, **late) for number in (7, 6, 1)])) == " ".join(
        ["OUTDATED"] * 3
    )

    assert contents(database) == before
    # The other operator's sequence, and another person's, are others.
    load(register, KARI, email=EMAIL)
    assert results(pushed(rpcs, [event(sequence=1, create=ADDRESS)], AT_EBOKS)) == "OK"
    assert results(pushed(rpcs, [event(KARI, sequence=1, create=ADDRESS)])) == "OK"


def test_a_refused_event_does_not_advance_the_sequence(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL, **RESERVED)

    answers = pushed(
        rpcs,
        [
            event(sequence=9, create_and_choose=ADDRESS),
            event(sequence=8, update=ADDRESS),
            event(sequence=7, choose=CHOICE),
            event(sequence=1, create=ADDRESS),
        ],
    )

    assert results(answers) == "RESERVED NO_MAILBOX RESERVED OK"


def test_a_removal_that_found_nothing_counts_so_that_a_late_creation_revives_nothing(
    register: Register, rpcs: Rpcs
) -> None:
    removal, late = event(sequence=5, delete=REMOVAL), event(sequence=4, create=ADDRESS)

    assert results(pushed(rpcs, [removal])) == "PERSON_NOT_FOUND"
    load(register, OLA, email=EMAIL)
    assert results(pushed(rpcs, [late, event(sequence=6, delete=REMOVAL)])) == "OUTDATED NO_MAILBOX"

    assert results(pushed(rpcs, [event(sequence=6, create=ADDRESS)])) == "OUTDATED"
    assert results(pushed(rpcs, [event(sequence=7, create=ADDRESS)])) == "OK"


def test_a_deleted_mailbox_is_not_revived_by_a_late_update(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)

    answers = pushed(
        rpcs,
        [
            event(sequence=1, create=ADDRESS),
            event(sequence=3, delete=REMOVAL),
            event(sequence=2, update=OTHER),
            # Whatever its sequence.
            event(sequence=4, update=OTHER),
        ],
    )

    assert results(answers) == "OK OK OUTDATED NO_MAILBOX"
    assert addresses(register) == {}


def test_the_time_at_which_an_event_happened_orders_nothing(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    events = [
        event(sequence=1, create=ADDRESS),
        event(sequence=2, update=OTHER),
        event(sequence=3, update=ADDRESS),
    ]
    for each, seconds in zip(events, (4_000_000_000, -1, 0), strict=True):
        each.details.occurred_time.CopyFrom(Timestamp(seconds=seconds))

    assert results(pushed(rpcs, events)) == "OK OK OK"
    assert addresses(register) == {DIGIPOST: ADDRESS.address}


def test_an_operator_fills_an_empty_choice_and_never_takes_anothers_place(
    register: Register, rpcs: Rpcs
) -> None:
    load(register, OLA, **UNCHOSEN)
    [filled] = pushed(rpcs, [event(sequence=1, choose=CHOICE)])
    taking = [
        event(sequence=1, create_and_choose=OTHER),
        event(sequence=2, create=OTHER),
        event(sequence=3, choose=CHOICE),
    ]

    assert result(filled) == "OK"
    assert results(pushed(rpcs, taking, AT_EBOKS)) == "ALREADY_CHOSEN OK ALREADY_CHOSEN"
    assert chosen(register) == [DIGIPOST]


def test_an_operator_reaches_its_own_mailbox_only_and_others_are_no_operators(
    register: Register, rpcs: Rpcs, database: "Connection[Any]"
) -> None:
    load(register, OLA, **UNCHOSEN)
    before = contents(database)

    elsewhere = [event(sequence=1, update=OTHER), event(sequence=2, delete=REMOVAL)]
    assert results(pushed(rpcs, elsewhere, AT_EBOKS)) == "NO_MAILBOX NO_MAILBOX"
    request = pb.PushEventsRequest(events=[event(delete=REMOVAL)])
    refused = rpcs.call(PUSH, request, f"operator/{PUBLIC_BODY}")

    assert (refused.code.name, refused.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    assert contents(database) == before
    fields = mailbox_event_pb2.MailboxEvent.DESCRIPTOR.fields_by_name
    assert not [name for name in fields if "operator" in name], "nothing in an event names an operator"


def _without_a_level() -> mailbox_event_pb2.MailboxEvent:
    poison = event(create=ADDRESS)
    poison.details.CopyFrom(event_details())
    poison.details.evidence.ClearField("level")
    return poison


POISON = {
    "an id that is none": (event(event_id="none", create=ADDRESS), "INVALID_EVENT"),
    "no id": (event(event_id="", create=ADDRESS), "INVALID_EVENT"),
    "no sequence": (event(sequence=0, create=ADDRESS), "INVALID_EVENT"),
    "a sequence below all": (event(sequence=-(2**63), create=ADDRESS), "INVALID_EVENT"),
    "no operation": (event(), "INVALID_EVENT"),
    "nothing at all": (mailbox_event_pb2.MailboxEvent(), "INVALID_EVENT"),
    "evidence without a level": (_without_a_level(), "INVALID_EVENT"),
    "no identifier": (event("", create=ADDRESS), "INVALID_IDENTIFIER"),
    "a wrong control digit": (event("11822648951", delete=REMOVAL), "INVALID_IDENTIFIER"),
    "too long an address": (event(create=content("x" * 101)), "INVALID_MAILBOX_ADDRESS"),
    "a zero byte": (event(create=content("ola.nordmann\0")), "INVALID_MAILBOX_ADDRESS"),
    "no certificate": (event(create=content("x" * 8, NO_CERTIFICATE)), "INVALID_CERTIFICATE"),
    "somebody unknown": (event(KARI, create=ADDRESS), "PERSON_NOT_FOUND"),
}


def test_a_poisonous_event_is_answered_so_and_stops_no_other(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    events, expected = [event(sequence=1, create=ADDRESS)], ["OK"]
    for poison, answer in POISON.values():
        events += [poison, event(sequence=len(events) + 1, update=OTHER)]
        expected += [answer, "OK"]

    answers = pushed(rpcs, events)

    assert list(map(result, answers)) == expected
    assert pushed(rpcs, [event(sequence=len(events) + 1, delete=REMOVAL)])[0].change_number


@pytest.mark.parametrize("poison", POISON)
def test_a_poisonous_event_again_is_answered_the_same(rpcs: Rpcs, poison: str) -> None:
    spoilt, expected = POISON[poison]
    # Some twice in a message, some in two.
    assert {result(answer) for _ in range(2) for answer in pushed(rpcs, [spoilt, spoilt])} == {expected}


def test_a_fault_of_ours_ends_the_stream_after_the_events_before_it_and_undoes_none(
    register: Register, rpcs: Rpcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(register, OLA, email=EMAIL)
    load(register, KARI, email=EMAIL)

    def faulty(*arguments: Any) -> Any:
        if any(each.removes for each in arguments[2]):
            raise ZeroDivisionError
        return apply_events(*arguments)

    monkeypatch.setattr("server.mailbox_events.apply_events", faulty)
    events = [event(OLA, create=ADDRESS), event(KARI, delete=REMOVAL)]
    push = Push(rpcs)

    push.send(*events)

    assert [result(each.answer) for each in push.acknowledgements(1)] == ["OK"]
    assert push.watch.outcome().reason == "INTERNAL"
    monkeypatch.undo()
    again = pushed(rpcs, events)
    assert [(result(answer), answer.duplicate) for answer in again] == [("OK", True), ("NO_MAILBOX", False)]


@pytest.mark.parametrize("count", [0, 1001])
def test_a_message_of_too_few_or_too_many_events_ends_the_stream_after_the_answers_before_it(
    register: Register, rpcs: Rpcs, count: int
) -> None:
    load(register, OLA, email=EMAIL)
    push = Push(rpcs)

    push.send(event(create=ADDRESS))
    push.send(*[event(sequence=2, update=OTHER)] * count)

    assert [result(each.answer) for each in push.acknowledgements(1)] == ["OK"]
    ended = push.watch.outcome()
    assert (ended.code.name, ended.reason) == ("INVALID_ARGUMENT", "BATCH_SIZE")
    assert addresses(register) == {DIGIPOST: ADDRESS.address}


EVIDENCE = "SELECT change_number, operator, eid, level, agreed_time, agreed_text_sha256 FROM mailbox_evidence"


def test_evidence_is_kept_with_the_change_that_it_came_with_and_goes_with_the_person(
    register: Register, rpcs: Rpcs, database: "Connection[Any]"
) -> None:
    load(register, OLA, email=EMAIL)
    load(register, KARI, email=EMAIL)
    events = [event(OLA, create_and_choose=ADDRESS), event(OLA, create=OTHER), event(KARI, create=ADDRESS)]
    for sequence, each in enumerate(events, 1):
        each.details.CopyFrom(event_details(sequence))

    answers = pushed(rpcs, events)

    assert results(answers) == "OK MAILBOX_EXISTS OK"
    evidence = events[0].details.evidence
    given = ("BankID", "HIGH", evidence.agreed_time.ToDatetime(), bytes(range(32)))
    kept = database.execute(EVIDENCE + " ORDER BY change_number").fetchall()
    assert [(*row[:4], row[4].replace(tzinfo=None), row[5]) for row in kept[:1]] == [
        (answers[0].change_number, DIGIPOST, *given)
    ]
    assert [row[0] for row in kept] == [answers[0].change_number, answers[2].change_number]
    for deleted, left in ((OLA, 1), (KARI, 0)):
        register.as_administrator().DeletePerson(
            admin_service_pb2.AdminServiceDeletePersonRequest(
                request_id=request_id(), identifier=deleted, reason=person_pb2.DELETION_REASON_DEAD
            )
        )
        assert len(database.execute(EVIDENCE).fetchall()) == left


def test_a_single_call_counts_in_the_same_order_as_a_stream_and_keeps_evidence(
    register: Register, rpcs: Rpcs, database: "Connection[Any]"
) -> None:
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    operator = register.as_digipost()

    def update(address: str, sequence: int) -> str:
        request = pb.UpdateMailboxRequest(identifier=OLA, address=address)
        if sequence:
            request.details.CopyFrom(event_details(sequence))
        return result(operator.UpdateMailbox(request).answer)

    assert update(OTHER.address, 1) == "NO_MAILBOX"
    pushed(rpcs, [event(sequence=5, create=ADDRESS)], AT_DIGIPOST)
    assert update(OTHER.address, 5) == "OUTDATED"
    assert addresses(register) == {DIGIPOST: ADDRESS.address}
    assert update(OTHER.address, 6) == "OK"
    assert addresses(register) == {DIGIPOST: OTHER.address}
    assert results(pushed(rpcs, [event(sequence=6, update=ADDRESS)])) == "OUTDATED"
    # An operator that does not count is not checked, and moves nothing.
    assert update(ADDRESS.address, 0) == "OK"
    assert results(pushed(rpcs, [event(sequence=7, update=OTHER)])) == "OK"
    assert len(database.execute(EVIDENCE).fetchall()) == 1


def test_the_other_operator_hears_of_no_event(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    cursor = register.as_eboks().ListMailboxes(pb.ListMailboxesRequest()).cursor

    pushed(rpcs, [event(sequence=1, create_and_choose=ADDRESS), event(sequence=2, update=OTHER)])

    mine = register.as_digipost().ListMailboxes(pb.ListMailboxesRequest()).mailboxes
    assert [(held.address, held.receives_public_mail) for held in mine] == [(OTHER.address, True)]
    assert not register.as_eboks().ListMailboxes(pb.ListMailboxesRequest(after_cursor=cursor)).mailboxes
    assert own_entry(register).mailboxes[0].mailbox.operator_organisation_number != EBOKS
