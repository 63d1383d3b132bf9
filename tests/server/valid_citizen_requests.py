"""Valid requests of citizens: see valid_requests.py."""

from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from krr.v1 import citizen_service_pb2 as pb
from krr.v1 import delivery_service_pb2 as work
from krr.v1 import person_pb2

from tests.people import EBOKS, KARI, NIELS, OLA, register_request, request_id
from tests.server.rpcs import Rpcs


def valid_citizen_requests(rpcs: Rpcs, fresh: str, log_in_service: str) -> dict[str, tuple[str, Any]]:
    """Send a code to Kari, whose e-mail is read; a caller and a request for each RPC.

    fresh: a freshness token.
    """
    code = _code_to_kari(rpcs)
    kari: dict[str, Any] = {
        "request_id": request_id(),
        "identifier": KARI,
        # Ola's registration and choice came first, then Kari's registration and mailbox.
        "expected_change_number": 4,
    }
    requests: dict[str, Any] = {
        "GetPerson": pb.GetPersonRequest(identifier=OLA, at_least_as_fresh=fresh),
        "UpdateContact": pb.UpdateContactRequest(
            **kari,
            update_mask=FieldMask(paths=["email", "mobile"]),
            email="kari@example.com",
            mobile="+4792345678",
        ),
        "ConfirmContact": pb.ConfirmContactRequest(**kari),
        "SendVerificationCode": pb.SendVerificationCodeRequest(
            request_id=request_id(), identifier=KARI, contact_kind=person_pb2.CONTACT_KIND_MOBILE
        ),
        "VerifyContact": pb.VerifyContactRequest(
            request_id=request_id(),
            identifier=KARI,
            contact_kind=person_pb2.CONTACT_KIND_EMAIL,
            code=code,
        ),
        "SetLanguage": pb.SetLanguageRequest(**kari, language=person_pb2.LANGUAGE_EN),
        "Reserve": pb.ReserveRequest(**kari),
        "CancelReservation": pb.CancelReservationRequest(**kari),
        "ChooseMailbox": pb.ChooseMailboxRequest(**kari, operator_organisation_number=EBOKS),
        "DeletePerson": pb.DeletePersonRequest(**kari),
        "ListHistory": pb.ListHistoryRequest(identifier=KARI, page_size=10),
    }
    register = register_request(NIELS)
    register.language = person_pb2.LANGUAGE_SE
    register.expected_change_number = 0
    return {
        "CitizenService/RegisterPerson": (log_in_service, register),
        **{
            f"CitizenService/{name}": (f"citizen/{request.identifier}", request)
            for name, request in requests.items()
        },
    }


def _code_to_kari(rpcs: Rpcs) -> str:
    """The code that waits for Kari's e-mail."""
    send = pb.SendVerificationCodeRequest(
        request_id=request_id(), identifier=KARI, contact_kind=person_pb2.CONTACT_KIND_EMAIL
    )
    assert rpcs.call("CitizenService/SendVerificationCode", send, f"citizen/{KARI}").response
    lease = work.LeaseMessagesRequest(
        channel=work.CHANNEL_EMAIL, max_messages=1, lease_duration=Duration(seconds=60)
    )
    [message] = rpcs.call("DeliveryService/LeaseMessages", lease, "adapter/email").response.messages
    return str(message.verification_code)
