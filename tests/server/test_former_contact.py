"""A former address or number is told that it was replaced or removed, and then forgotten."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from krr.v1 import admin_service_pb2, person_pb2
from krr.v1 import delivery_service_pb2 as pb
from psycopg import Connection

from tests.conftest import Register
from tests.people import KARI, OLA, register_request, request_id
from tests.server.codes import read_code, send, verify
from tests.server.messages import finish_sent, lease
from tests.server.test_citizen_writes import update, write

CONTACT_CHANGED = pb.MESSAGE_KIND_CONTACT_CHANGED
EMAIL, MOBILE = person_pb2.CONTACT_KIND_EMAIL, person_pb2.CONTACT_KIND_MOBILE


@pytest.fixture(autouse=True)
def ola(register: Register) -> None:
    """Ola is registered with ola@example.com and +4791234567."""
    register.as_log_in_service().RegisterPerson(register_request(OLA))


def told(register: Register) -> list[tuple[str, str]]:
    """Channel and recipient of each message that is due; all are of the one kind."""
    due = [(channel, message) for channel in ("sms", "email") for message in lease(register, channel)]
    assert {message.kind for _, message in due} <= {CONTACT_CHANGED}
    return [(channel, message.recipient) for channel, message in due]


def recipients(database: "Connection[Any]") -> list[str | None]:
    """Whom the register knows of each message."""
    return [row[0] for row in database.execute("SELECT recipient FROM message ORDER BY number").fetchall()]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"mobile": "+4741234567"}, [("sms", "+4791234567")]),
        ({"email": "kari@example.com"}, [("email", "ola@example.com")]),
        ({"mobile": ""}, [("sms", "+4791234567")]),
        ({"email": ""}, [("email", "ola@example.com")]),
        (
            {"email": "kari@example.com", "mobile": "+4741234567"},
            [("sms", "+4791234567"), ("email", "ola@example.com")],
        ),
        ({"email": "", "mobile": ""}, [("sms", "+4791234567"), ("email", "ola@example.com")]),
        ({"email": "kari@example.com", "mobile": ""}, [("sms", "+4791234567"), ("email", "ola@example.com")]),
        # The mail server may hold them apart, whatever most do.
        ({"email": "Ola@example.com"}, [("email", "ola@example.com")]),
        ({"email": "ola@example.com", "mobile": "912 34 567"}, []),
        ({"email": "ola@EXAMPLE.com"}, []),
    ],
)
def test_each_value_that_is_replaced_or_removed_is_told_and_no_other(
    register: Register, values: dict[str, str], expected: list[tuple[str, str]]
) -> None:
    update(register, *values, **values)
    assert told(register) == expected


def test_the_message_says_which_kind_it_was_in_the_language_of_the_person(register: Register) -> None:
    write(register, "SetLanguage", language=person_pb2.LANGUAGE_SE)
    update(register, "email", "mobile")
    [by_sms], [by_email] = lease(register, "sms"), lease(register, "email")
    assert (by_sms.contact_kind, by_email.contact_kind) == (MOBILE, EMAIL)
    assert {by_sms.language, by_email.language} == {person_pb2.LANGUAGE_SE}
    assert by_sms.synthetic_person


@pytest.mark.parametrize("name", ["ConfirmContact", "Reserve", "DeletePerson"])
def test_who_confirms_reserves_or_leaves_is_told_nothing(register: Register, name: str) -> None:
    write(register, name)
    assert told(register) == []


def test_who_proves_a_value_or_gets_another_identifier_is_told_nothing(register: Register) -> None:
    send(register)
    verify(register, read_code(register))
    register.as_administrator().ReplaceIdentifier(
        admin_service_pb2.ReplaceIdentifierRequest(
            request_id=request_id(), old_identifier=OLA, new_identifier=KARI
        )
    )
    assert told(register) == []


def test_who_is_reserved_is_told_too(register: Register) -> None:
    write(register, "Reserve")
    update(register, "mobile", mobile="+4741234567")
    assert told(register) == [("sms", "+4791234567")]


def test_a_value_that_comes_to_be_for_the_first_time_has_no_former_to_tell(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(KARI, mobile=""))
    write(register, "UpdateContact", KARI, update_mask={"paths": ["mobile"]}, mobile="+4741234567")
    assert told(register) == []


def test_each_change_is_told_by_itself_at_the_value_that_went(register: Register) -> None:
    for mobile in ("+4741234567", "+4791234567", "+4792345678"):
        update(register, "mobile", mobile=mobile)
    assert told(register) == [("sms", "+4791234567"), ("sms", "+4741234567"), ("sms", "+4791234567")]


def test_the_same_request_again_tells_once(register: Register) -> None:
    same = request_id()
    for _ in range(3):
        update(register, "email", email="kari@example.com", request_id=same)
    assert told(register) == [("email", "ola@example.com")]


@pytest.mark.parametrize("later", ["UpdateContact", "DeletePerson"])
def test_the_former_value_is_known_until_it_was_told_and_no_longer(
    register: Register, database: "Connection[Any]", later: str
) -> None:
    update(register, "mobile", mobile="+4741234567")
    if later == "UpdateContact":
        update(register, "mobile")
    else:
        write(register, later)
    assert recipients(database)[0] == "+4791234567"

    for message in lease(register, "sms"):
        finish_sent(register, "sms", message)

    assert recipients(database) == [None] * len(recipients(database))
    states = database.execute("SELECT DISTINCT state FROM message").fetchall()
    assert states == [("SENT",)]


def test_a_former_value_that_could_not_be_told_in_a_week_is_forgotten(
    register: Register, database: "Connection[Any]"
) -> None:
    update(register, "email", email="kari@example.com")
    database.execute("UPDATE message SET expires_time = expires_time - interval '7 days'")
    assert told(register) == []
    assert recipients(database) == [None]
    assert database.execute("SELECT state, reason_code FROM message").fetchall() == [
        ("SUPPRESSED", "EXPIRED")
    ]


def test_an_attempt_that_is_to_be_repeated_keeps_the_former_value(
    register: Register, database: "Connection[Any]"
) -> None:
    update(register, "email", email="kari@example.com")
    [message] = lease(register, "email")
    later = pb.TryLater(delay=Duration(), error_code="SMTP_451")
    register.as_adapter("email").FinishMessage(
        pb.FinishMessageRequest(
            message_id=message.message_id, lease_token=message.lease_token, try_later=later
        )
    )
    assert told(register) == [("email", "ola@example.com")]
