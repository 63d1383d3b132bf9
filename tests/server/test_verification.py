"""SendVerificationCode and VerifyContact through the channel: what a code proves, and when it does not."""

import re
from datetime import timedelta
from typing import Any

import pytest
from krr.v1 import admin_service_pb2, delivery_service_pb2, message_record_pb2
from krr.v1 import citizen_service_pb2 as pb
from krr_client import RegisterError
from psycopg import Connection

from server.__main__ import Server
from tests.conftest import Register
from tests.people import KARI, OLA, register_request, request_id
from tests.server.codes import (
    A_MINUTE,
    EMAIL,
    MOBILE,
    Kind,
    let_pass,
    other_than,
    read_code,
    send,
    verify,
    why_not,
)
from tests.server.database import contents
from tests.server.messages import lease
from tests.server.test_citizen_writes import CHANGED, own_entry, update, write

TEN_MINUTES = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def ola(register: Register) -> None:
    """Ola is registered with ola@example.com and +4791234567."""
    register.as_log_in_service().RegisterPerson(register_request(OLA))


def wrong_tries(database: "Connection[Any]") -> list[int]:
    rows = database.execute("SELECT wrong_tries FROM verification_code ORDER BY created_time").fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("kind", "channel", "recipient"),
    [(MOBILE, "sms", "+4791234567"), (EMAIL, "email", "ola@example.com")],
)
def test_a_code_goes_to_the_contact_point_and_proves_that_one_only(
    register: Register, kind: Kind, channel: str, recipient: str
) -> None:
    sent = send(register, kind)
    assert (sent.code_lifetime.seconds, sent.resend_after.seconds, sent.duplicate) == (600, 60, False)

    [message] = lease(register, channel)
    assert message.kind == delivery_service_pb2.MESSAGE_KIND_VERIFICATION_CODE
    assert (message.recipient, message.contact_kind) == (recipient, kind)
    assert re.fullmatch("[0-9]{6}", message.verification_code)
    answer = verify(register, message.verification_code, kind)

    assert (answer.result, answer.change_number) == (CHANGED, 2)
    person = own_entry(register).person
    assert (person.email.HasField("validated_time"), person.mobile.HasField("validated_time")) == (
        kind == EMAIL,
        kind == MOBILE,
    )
    history = register.as_citizen(OLA).ListHistory(pb.ListHistoryRequest(identifier=OLA, page_size=1))
    assert list(history.entries[0].fields) == ["email" if kind == EMAIL else "mobile"]


def test_a_code_to_one_contact_point_does_not_prove_the_other(register: Register) -> None:
    send(register, EMAIL)
    assert why_not(register, read_code(register, "email"), MOBILE) == "CODE_EXPIRED"


def test_the_code_of_one_person_is_wrong_for_another_with_the_same_number(register: Register) -> None:
    register.as_log_in_service().RegisterPerson(register_request(KARI))
    send(register)
    code = read_code(register)
    send(register, identifier=KARI)
    assert why_not(register, code, identifier=KARI) == "CODE_WRONG"


def test_a_wrong_code_counts_once_however_often_the_request_is_repeated(
    register: Register, database: "Connection[Any]"
) -> None:
    send(register)
    code = read_code(register)
    same = request_id()

    for _ in range(7):
        assert why_not(register, other_than(code), request_id=same) == "CODE_WRONG"
    assert wrong_tries(database) == [1]
    assert why_not(register, other_than(code)) == "CODE_WRONG"
    assert wrong_tries(database) == [2]

    with pytest.raises(RegisterError) as reused:
        verify(register, code, request_id=same)
    assert reused.value.reason == "REQUEST_ID_REUSED"
    assert verify(register, code).result == CHANGED


def test_after_five_wrong_tries_the_right_code_proves_nothing(
    register: Register, database: "Connection[Any]"
) -> None:
    send(register)
    code = read_code(register)
    assert [why_not(register, other_than(code)) for _ in range(5)] == ["CODE_WRONG"] * 5
    assert why_not(register, code) == "CODE_EXPIRED"
    assert wrong_tries(database) == [5]
    assert not own_entry(register).person.mobile.HasField("validated_time")


def test_the_fifth_try_may_be_the_right_one(register: Register) -> None:
    send(register)
    code = read_code(register)
    for _ in range(4):
        why_not(register, other_than(code))
    assert verify(register, code).result == CHANGED


def test_a_code_is_good_once_and_the_same_request_gets_the_first_answer(register: Register) -> None:
    send(register)
    code = read_code(register)
    same = request_id()
    first = verify(register, code, request_id=same)
    again = verify(register, code, request_id=same)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert (again.result, again.change_number) == (CHANGED, first.change_number)
    assert why_not(register, code) == "CODE_EXPIRED"


def test_a_request_for_a_code_that_is_repeated_sends_one(register: Register) -> None:
    same = request_id()
    assert [send(register, request_id=same).duplicate for _ in range(3)] == [False, True, True]
    assert len(lease(register, "sms")) == 1


def test_a_code_is_good_for_ten_minutes_and_no_longer(
    register: Register, database: "Connection[Any]"
) -> None:
    send(register)
    code = read_code(register)
    let_pass(database, TEN_MINUTES)
    assert why_not(register, code) == "CODE_EXPIRED"
    # Whatever the machine does in the minute that is left.
    let_pass(database, -A_MINUTE)
    assert verify(register, code).result == CHANGED


def test_a_later_code_ends_the_earlier_one_which_then_is_wrong(
    register: Register, database: "Connection[Any]"
) -> None:
    send(register)
    first = read_code(register)
    let_pass(database, A_MINUTE)
    send(register)
    second = read_code(register)
    ended = database.execute("SELECT ended_time IS NOT NULL FROM verification_code ORDER BY created_time")
    assert ended.fetchall() == [(True,), (False,)]
    assert why_not(register, first) == "CODE_WRONG"
    assert verify(register, second).result == CHANGED


def test_an_earlier_code_that_waits_for_its_gateway_is_not_sent_after_a_later_one(
    register: Register, database: "Connection[Any]"
) -> None:
    send(register)
    let_pass(database, A_MINUTE)
    send(register)
    assert verify(register, read_code(register)).result == CHANGED


@pytest.mark.parametrize("value", ["kari@example.com", "OLA@example.com", ""])
def test_a_code_to_a_value_that_changed_since_is_not_sent_and_proves_nothing(
    register: Register, database: "Connection[Any]", value: str
) -> None:
    send(register, EMAIL)
    code = read_code(register, "email")
    let_pass(database, A_MINUTE)
    send(register, EMAIL)

    update(register, "email", email=value)

    assert [message.recipient for message in lease(register, "email")] == ["ola@example.com"]
    states = database.execute("SELECT state, reason_code FROM message ORDER BY number").fetchall()
    assert states[1] == ("SUPPRESSED", "NOT_WANTED")
    assert why_not(register, code, EMAIL) == ("CODE_EXPIRED" if value else "CONTACT_MISSING")


def test_a_value_that_left_and_came_back_is_not_proved_by_the_code_before(register: Register) -> None:
    send(register, EMAIL)
    code = read_code(register, "email")
    update(register, "email", email="")
    update(register, "email", email="ola@example.com")
    assert why_not(register, code, EMAIL) == "CODE_EXPIRED"


def test_a_changed_value_is_not_validated_any_more_and_a_confirmed_one_is(register: Register) -> None:
    send(register)
    verify(register, read_code(register))
    validated = own_entry(register).person.mobile.validated_time
    update(register, "mobile", mobile="+4791234567")
    assert own_entry(register).person.mobile.validated_time == validated
    update(register, "mobile", mobile="+4741234567")
    assert not own_entry(register).person.mobile.HasField("validated_time")


def test_no_code_is_sent_to_a_contact_point_that_is_not_there(
    register: Register, database: "Connection[Any]"
) -> None:
    update(register, "mobile", mobile="")
    before = contents(database)
    for refused in (lambda: send(register), lambda: verify(register, "123456")):
        with pytest.raises(RegisterError) as missing:
            refused()
        assert missing.value.reason == "CONTACT_MISSING"
    with pytest.raises(RegisterError) as unknown:
        send(register, identifier=KARI)
    assert unknown.value.reason == "PERSON_NOT_FOUND"
    assert why_not(register, "123456", identifier=KARI) == "PERSON_NOT_FOUND"
    assert why_not(register, "123456", EMAIL) == "CODE_EXPIRED"
    assert contents(database) == before


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345x", "１２３４５６", " 12345", "-12345"])
def test_what_is_not_six_digits_is_refused_by_name_and_is_no_try(
    register: Register, database: "Connection[Any]", code: str
) -> None:
    send(register)
    with pytest.raises(RegisterError) as refused:
        verify(register, code)
    assert refused.value.reason == "INVALID_FIELD"
    assert [field for field, _ in refused.value.fields] == ["code"]
    assert wrong_tries(database) == [0]


def test_whoever_reserved_may_prove_contact_info_too(register: Register) -> None:
    write(register, "Reserve")
    send(register)
    assert verify(register, read_code(register)).result == CHANGED


def test_staff_cannot_have_a_code_sent_again(register: Register) -> None:
    send(register)
    [message] = lease(register, "sms")
    retry = message_record_pb2.RetryMessagesRequest(request_id=request_id(), message_ids=[message.message_id])
    assert register.as_administrator().RetryMessages(retry).retried_count == 0


def test_whoever_is_deleted_and_registers_again_is_not_proved_by_the_code_before(register: Register) -> None:
    send(register)
    code = read_code(register)
    write(register, "DeletePerson")
    assert why_not(register, code) == "PERSON_NOT_FOUND"
    register.as_log_in_service().RegisterPerson(register_request(OLA))
    assert why_not(register, code) == "CODE_EXPIRED"


def test_a_new_identifier_takes_the_code_along(register: Register) -> None:
    send(register)
    code = read_code(register)
    register.as_administrator().ReplaceIdentifier(
        admin_service_pb2.ReplaceIdentifierRequest(
            request_id=request_id(), old_identifier=OLA, new_identifier=KARI
        )
    )
    assert verify(register, code, identifier=KARI).result == CHANGED


def test_codes_are_forgotten_after_two_days_and_not_before(
    register: Register, database: "Connection[Any]", server: Server
) -> None:
    send(register)
    let_pass(database, timedelta(hours=47))
    send(register, EMAIL)
    server.tidy()
    assert len(wrong_tries(database)) == 2
    let_pass(database, timedelta(hours=1))
    server.tidy()
    assert len(wrong_tries(database)) == 1


def test_neither_code_nor_number_is_logged_or_stands_beside_the_code(
    register: Register, database: "Connection[Any]", capfd: pytest.CaptureFixture[str]
) -> None:
    send(register)
    code = read_code(register)
    why_not(register, other_than(code))
    verify(register, code)
    written = capfd.readouterr()
    kept = str(contents(database, ("verification_code", "request")))
    for text in (written.out, written.err, kept):
        assert not re.search(rf"(?<![0-9a-f-]){code}(?![0-9a-f-])", text)
        assert "91234567" not in text


def test_a_proved_contact_point_is_usable_for_longer(register: Register) -> None:
    send(register)
    verify(register, read_code(register))
    person = own_entry(register).person
    assert person.mobile.usable_until_time.ToDatetime() > person.email.usable_until_time.ToDatetime()
