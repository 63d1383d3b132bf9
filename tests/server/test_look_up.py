"""LookUpPersons: what public bodies are told, by state and purpose, and what they may ask."""

from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import uuid4

import pytest
from krr.v1 import admin_service_pb2, citizen_service_pb2, error_reason_pb2, person_pb2
from krr.v1 import register_service_pb2 as pb
from krr_client import RegisterError

from server.__main__ import Server
from server.tokens import Tokens
from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, KARI, NIELS, OLA, register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.valid_requests import time_ago

FRESH, OLD = time_ago(days=30), time_ago(days=600)


def look_up(
    register: Register,
    *identifiers: str,
    purpose: "pb.Purpose.ValueType" = pb.PURPOSE_NOTICE,
    fresh: str = "",
) -> list[pb.LookUpEntry]:
    request = pb.LookUpPersonsRequest(identifiers=identifiers, purpose=purpose, at_least_as_fresh=fresh)
    return list(register.as_public_body().LookUpPersons(request).entries)


def load(register: Register, identifier: str = OLA, **fields: Any) -> str:
    active: dict[str, Any] = {
        "status": person_pb2.PERSON_STATUS_ACTIVE,
        "reservation": person_pb2.RESERVATION_NOT_RESERVED,
    }
    person = admin_service_pb2.PersonToLoad(identifier=identifier, **active | fields)
    request = admin_service_pb2.LoadPersonsRequest(request_id=request_id(), persons=[person])
    return register.as_administrator().LoadPersons(request).freshness_token


def contact(value: str, updated: Any, **times: Any) -> person_pb2.ContactPoint:
    return person_pb2.ContactPoint(value=value, updated_time=updated, **times)


EMAIL, MOBILE = contact("ola@example.com", FRESH), contact("+4791234567", FRESH)
OLD_EMAIL, OLD_MOBILE = contact("ola@example.com", OLD), contact("+4791234567", OLD)
MAILBOX: dict[str, Any] = {
    "mailboxes": [person_pb2.Mailbox(operator_organisation_number=DIGIPOST, address="ola.nordmann#9YDT")],
    "chosen_operator_organisation_number": DIGIPOST,
}
RESERVED = {"reservation": person_pb2.RESERVATION_RESERVED, "reservation_time": OLD}


@pytest.mark.parametrize(
    ("loaded", "notifiable", "route", "given_for_notice", "given_for_service_message"),
    [
        ({"email": EMAIL, "mobile": MOBILE} | MAILBOX, True, "MAILBOX_CHOSEN", "em", "em"),
        ({"email": EMAIL, "mobile": MOBILE}, True, "NO_MAILBOX", "em", "em"),
        ({"email": OLD_EMAIL, "mobile": MOBILE} | MAILBOX, True, "MAILBOX_CHOSEN", "m", "em"),
        ({"email": OLD_EMAIL, "mobile": OLD_MOBILE} | MAILBOX, False, "NOT_NOTIFIABLE", "", "em"),
        (MAILBOX, False, "NOT_NOTIFIABLE", "", ""),
        ({"email": EMAIL, "mobile": MOBILE} | MAILBOX | RESERVED, False, "RESERVED", "em", "em"),
        ({"email": EMAIL, "mobile": OLD_MOBILE} | RESERVED, False, "RESERVED", "e", "em"),
        (RESERVED, False, "RESERVED", "", ""),
    ],
)
def test_the_state_decides_what_is_told_and_the_purpose_only_which_contact_points(
    register: Register,
    loaded: dict[str, Any],
    notifiable: bool,
    route: str,
    given_for_notice: str,
    given_for_service_message: str,
) -> None:
    load(register, **loaded)

    for purpose, given in (
        (pb.PURPOSE_NOTICE, given_for_notice),
        (pb.PURPOSE_SERVICE_MESSAGE, given_for_service_message),
    ):
        [entry] = look_up(register, OLA, purpose=purpose)

        person = entry.person
        assert person.status == person_pb2.PERSON_STATUS_ACTIVE
        assert (person.reservation == person_pb2.RESERVATION_RESERVED) == ("reservation" in loaded)
        assert person.reservation != person_pb2.RESERVATION_UNSPECIFIED
        assert (entry.notifiable == pb.NOTIFIABLE_YES) == notifiable
        assert pb.LetterRouteReason.Name(entry.letter_route_reason) == f"LETTER_ROUTE_REASON_{route}"
        assert (entry.letter_route == pb.LETTER_ROUTE_MAILBOX) == (route == "MAILBOX_CHOSEN")
        assert person.HasField("email") == ("e" in given)
        assert person.HasField("mobile") == ("m" in given)
        withheld = "mailboxes" not in loaded or "reservation" in loaded
        assert person.HasField("mailbox") != withheld
        expired = [
            kind
            for kind, name in (
                (person_pb2.CONTACT_KIND_EMAIL, "email"),
                (person_pb2.CONTACT_KIND_MOBILE, "mobile"),
            )
            if name in loaded and loaded[name].updated_time == OLD
        ]
        assert list(entry.expired_contacts) == expired


def test_a_contact_point_is_usable_for_18_months_after_its_latest_time(register: Register) -> None:
    load(register, email=contact("ola@example.com", OLD, confirmed_time=FRESH), mobile=OLD_MOBILE)

    [entry] = look_up(register, OLA, purpose=pb.PURPOSE_SERVICE_MESSAGE)

    now = datetime.now(UTC)
    assert entry.person.email.usable_until_time.ToDatetime(UTC) > now
    assert entry.person.mobile.usable_until_time.ToDatetime(UTC) < now
    assert list(entry.expired_contacts) == [person_pb2.CONTACT_KIND_MOBILE]


@pytest.mark.parametrize("purpose", [pb.PURPOSE_NOTICE, pb.PURPOSE_SERVICE_MESSAGE])
def test_neither_unknown_nor_deleted_persons_can_be_read_as_not_reserved(
    register: Register, purpose: "pb.Purpose.ValueType"
) -> None:
    load(register, OLA, status=person_pb2.PERSON_STATUS_DELETED, reservation=0)

    deleted, unknown = look_up(register, OLA, KARI, purpose=purpose)

    assert deleted.person == person_pb2.Person(
        identifier=OLA, status=person_pb2.PERSON_STATUS_DELETED, change_number=1
    )
    assert deleted.letter_route_reason == pb.LETTER_ROUTE_REASON_DELETED
    assert unknown.person == person_pb2.Person(
        identifier=KARI, status=person_pb2.PERSON_STATUS_NOT_REGISTERED
    )
    assert unknown.letter_route_reason == pb.LETTER_ROUTE_REASON_NOT_REGISTERED
    for entry in (deleted, unknown):
        assert entry.letter_route == pb.LETTER_ROUTE_PAPER
        assert entry.notifiable == pb.NOTIFIABLE_NO


def test_a_batch_is_answered_in_order_repeated_in_full_and_a_malformed_one_spoils_no_other(
    register: Register,
) -> None:
    load(register, OLA, email=EMAIL)
    wrong_digit = OLA[:-1] + "1"
    malformed = [
        "",
        "1182264895",
        f" {OLA}",
        f"{OLA}\n",
        "１１８２２６４８９５０",
        wrong_digit,
        "00000000000",
    ]
    asked = [KARI, OLA, malformed[0], OLA, *malformed, KARI, OLA, malformed[0]]

    entries = look_up(register, *asked)

    assert [entry.requested_identifier for entry in entries] == asked
    for entry in entries:
        if entry.requested_identifier in malformed:
            assert entry == pb.LookUpEntry(
                requested_identifier=entry.requested_identifier,
                refusal=error_reason_pb2.ERROR_REASON_INVALID_IDENTIFIER,
            )
        else:
            assert entry.person.identifier == entry.requested_identifier
            assert entry.person.HasField("email") == (entry.requested_identifier == OLA)
    assert entries[1] == entries[3] == entries[-2]


def test_1000_identifiers_are_answered_and_1001_or_none_are_refused(register: Register) -> None:
    load(register, OLA, email=EMAIL)
    known = [OLA, *islice(people(), 1000)]

    assert [entry.person.identifier for entry in look_up(register, *known[:1000])] == known[:1000]
    assert len(look_up(register, *[OLA] * 1000)) == 1000
    for count in (0, 1001):
        with pytest.raises(RegisterError) as refused:
            look_up(register, *known[:count])
        assert refused.value.reason == "BATCH_SIZE"
        assert refused.value.fields == (("identifiers", "1 to 1000 items"),)


def test_a_look_up_without_a_purpose_is_refused(register: Register) -> None:
    with pytest.raises(RegisterError) as refused:
        look_up(register, OLA, purpose=pb.PURPOSE_UNSPECIFIED)

    assert refused.value.reason == "INVALID_FIELD"
    assert refused.value.fields == (("purpose", "PURPOSE_NOTICE or PURPOSE_SERVICE_MESSAGE"),)


def test_the_token_of_a_write_lets_a_read_see_it(register: Register) -> None:
    answer = register.as_log_in_service().RegisterPerson(register_request(OLA)).answer

    [entry] = look_up(register, OLA, fresh=answer.freshness_token)
    own = register.as_citizen(OLA).GetPerson(
        citizen_service_pb2.GetPersonRequest(identifier=OLA, at_least_as_fresh=answer.freshness_token)
    )

    assert entry.person.change_number == own.person.change_number == answer.change_number


def test_a_token_whose_promise_the_register_cannot_keep_is_refused(
    register: Register, server: Server
) -> None:
    load(register, OLA, email=EMAIL)
    tokens = Tokens(server._store.epoch)
    freshness = tokens.freshness(1)

    for token, reason in (
        (tokens.freshness(2), "AHEAD_OF_REGISTER"),
        (tokens.freshness(2**63 - 1), "AHEAD_OF_REGISTER"),
        (Tokens(uuid4()).freshness(1), "FEED_RESET"),
        (tokens.cursor(1), "INVALID_TOKEN"),
        (tokens.page(1), "INVALID_TOKEN"),
        (freshness[:-4], "INVALID_TOKEN"),
        (freshness[:-8] + "AAAAAAA=", "INVALID_TOKEN"),
        ("1", "INVALID_TOKEN"),
    ):
        with pytest.raises(RegisterError) as refused:
            look_up(register, OLA, fresh=token)
        assert refused.value.reason == reason, token


def test_a_mailbox_that_is_not_the_chosen_one_is_not_shown(register: Register) -> None:
    both = [
        *MAILBOX["mailboxes"],
        person_pb2.Mailbox(operator_organisation_number=EBOKS, address="ola-nordmann-eboks"),
    ]
    load(register, OLA, email=EMAIL, mailboxes=both, chosen_operator_organisation_number=EBOKS)
    load(register, NIELS, email=EMAIL, mailboxes=both)

    chosen, unchosen = look_up(register, OLA, NIELS)

    assert chosen.person.mailbox.address == "ola-nordmann-eboks"
    assert not unchosen.person.HasField("mailbox")
    assert unchosen.letter_route_reason == pb.LETTER_ROUTE_REASON_NO_MAILBOX
