"""One-time codes as citizens ask for them, read and try them; each a request of its own unless named."""

from datetime import timedelta
from typing import Any, TypeAlias

import pytest
from krr.v1 import citizen_service_pb2 as pb
from krr.v1 import person_pb2
from krr_client import RegisterError
from psycopg import Connection

from tests.conftest import Register
from tests.people import OLA
from tests.server.messages import lease

EMAIL, MOBILE = person_pb2.CONTACT_KIND_EMAIL, person_pb2.CONTACT_KIND_MOBILE
Kind: TypeAlias = "person_pb2.ContactKind.ValueType"
A_MINUTE = timedelta(seconds=61)


def send(
    register: Register, kind: Kind = MOBILE, identifier: str = OLA, *, request_id: str = ""
) -> pb.SendVerificationCodeResponse:
    """Ask for a code."""
    request = pb.SendVerificationCodeRequest(request_id=request_id, identifier=identifier, contact_kind=kind)
    return register.as_citizen(identifier).SendVerificationCode(request)


def read_code(register: Register, channel: str = "sms") -> str:
    """The code in the one message that is due."""
    [message] = lease(register, channel)
    return message.verification_code


def verify(
    register: Register, code: str, kind: Kind = MOBILE, identifier: str = OLA, *, request_id: str = ""
) -> person_pb2.WriteAnswer:
    """Try the code."""
    request = pb.VerifyContactRequest(
        request_id=request_id, identifier=identifier, contact_kind=kind, code=code
    )
    return register.as_citizen(identifier).VerifyContact(request).answer


def why_not(
    register: Register, code: str, kind: Kind = MOBILE, identifier: str = OLA, *, request_id: str = ""
) -> str:
    """The reason for which the code proves nothing."""
    with pytest.raises(RegisterError) as refused:
        verify(register, code, kind, identifier, request_id=request_id)
    return refused.value.reason


def too_soon(register: Register, kind: Kind = MOBILE, identifier: str = OLA) -> float:
    """How many seconds to wait for another code, where none is sent now."""
    with pytest.raises(RegisterError) as refused:
        send(register, kind, identifier)
    assert refused.value.reason == "CODE_TOO_SOON"
    assert refused.value.retry_after is not None
    return refused.value.retry_after


def other_than(code: str, place: int = -1) -> str:
    """The code with another digit in one place."""
    digits = list(code)
    digits[place] = str((int(digits[place]) + 1) % 10)
    return "".join(digits)


def let_pass(database: "Connection[Any]", time: timedelta) -> None:
    """Make every code so much older."""
    database.execute(
        "UPDATE verification_code SET created_time = created_time - %(time)s, "
        "expires_time = expires_time - %(time)s",
        {"time": time},
    )
