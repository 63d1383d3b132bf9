"""Refusals to gRPC statuses: the one table, and the one place that writes them."""

from datetime import timedelta

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from server.domain.errors import InvalidValue, Reason, Refusal

_DOMAIN = "krr.v1"

STATUS = {
    Reason.INVALID_IDENTIFIER: StatusCode.INVALID_ARGUMENT,
    Reason.SYNTHETIC_IDENTIFIER: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_EMAIL: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_MOBILE: StatusCode.INVALID_ARGUMENT,
    Reason.PREMIUM_RATE_NUMBER: StatusCode.INVALID_ARGUMENT,
    Reason.SHORT_NUMBER: StatusCode.INVALID_ARGUMENT,
    Reason.MACHINE_NUMBER: StatusCode.INVALID_ARGUMENT,
    Reason.SATELLITE_NUMBER: StatusCode.INVALID_ARGUMENT,
    Reason.NOT_A_MOBILE: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_ORGANISATION_NUMBER: StatusCode.INVALID_ARGUMENT,
    Reason.UNKNOWN_OPERATOR: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_MAILBOX_ADDRESS: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_CERTIFICATE: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_REQUEST_ID: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_FIELD: StatusCode.INVALID_ARGUMENT,
    Reason.BATCH_SIZE: StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_TOKEN: StatusCode.INVALID_ARGUMENT,
    Reason.CREDENTIAL_MISSING: StatusCode.UNAUTHENTICATED,
    Reason.CREDENTIAL_REFUSED: StatusCode.UNAUTHENTICATED,
    Reason.CALLER_NOT_ALLOWED: StatusCode.PERMISSION_DENIED,
    Reason.OTHER_PERSON: StatusCode.PERMISSION_DENIED,
    Reason.PERSON_NOT_FOUND: StatusCode.NOT_FOUND,
    Reason.ALREADY_REGISTERED: StatusCode.ALREADY_EXISTS,
    Reason.RESERVED: StatusCode.FAILED_PRECONDITION,
    Reason.NO_MAILBOX: StatusCode.FAILED_PRECONDITION,
    Reason.CONTACT_MISSING: StatusCode.FAILED_PRECONDITION,
    Reason.CHANGED_SINCE: StatusCode.ABORTED,
    Reason.REQUEST_ID_REUSED: StatusCode.ALREADY_EXISTS,
    Reason.AHEAD_OF_REGISTER: StatusCode.OUT_OF_RANGE,
    Reason.FEED_RESET: StatusCode.FAILED_PRECONDITION,
    Reason.LEASE_LOST: StatusCode.ABORTED,
    Reason.UNKNOWN_RECEIPT: StatusCode.NOT_FOUND,
    Reason.DEADLINE: StatusCode.DEADLINE_EXCEEDED,
    Reason.CONFLICT: StatusCode.ABORTED,
    Reason.DATABASE_UNAVAILABLE: StatusCode.UNAVAILABLE,
    Reason.INTERNAL: StatusCode.INTERNAL,
    Reason.TOO_MANY_STREAMS: StatusCode.RESOURCE_EXHAUSTED,
    Reason.SERVER_ENDING: StatusCode.UNAVAILABLE,
    Reason.UNKNOWN_IMPORT: StatusCode.NOT_FOUND,
    Reason.IMPORT_FINISHED: StatusCode.FAILED_PRECONDITION,
    Reason.DUPLICATE_ROW: StatusCode.INVALID_ARGUMENT,
    Reason.CERTIFICATE_KEY_TOO_WEAK: StatusCode.INVALID_ARGUMENT,
    Reason.CERTIFICATE_EXPIRED: StatusCode.INVALID_ARGUMENT,
    Reason.CERTIFICATE_NOT_FOR_ENCRYPTION: StatusCode.INVALID_ARGUMENT,
    Reason.CERTIFICATE_OF_ANOTHER: StatusCode.INVALID_ARGUMENT,
    Reason.CERTIFICATE_RETIRED: StatusCode.FAILED_PRECONDITION,
    Reason.UNKNOWN_CERTIFICATE: StatusCode.NOT_FOUND,
    Reason.UNKNOWN_SWEEP: StatusCode.NOT_FOUND,
    Reason.CODE_WRONG: StatusCode.FAILED_PRECONDITION,
    Reason.CODE_EXPIRED: StatusCode.FAILED_PRECONDITION,
    Reason.CODE_TOO_SOON: StatusCode.RESOURCE_EXHAUSTED,
    Reason.UNKNOWN_CAMPAIGN: StatusCode.NOT_FOUND,
    Reason.CAMPAIGN_STATE: StatusCode.FAILED_PRECONDITION,
}

# How long to wait before a retry, where a retry can help and the refusal does not say.
_RETRY_AFTER = {
    Reason.DATABASE_UNAVAILABLE: timedelta(milliseconds=500),
    Reason.CONFLICT: timedelta(milliseconds=100),
    Reason.TOO_MANY_STREAMS: timedelta(seconds=5),
    Reason.SERVER_ENDING: timedelta(milliseconds=100),
}


def refuse(context: grpc.ServicerContext, refusal: Refusal) -> StatusCode:
    """Put the refusal on the call as status, details and trailing metadata; return the status."""
    reason = refusal.reason
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason.name, domain=_DOMAIN)]
    if isinstance(refusal, InvalidValue) and refusal.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=refusal.field, description=refusal.description
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    retry_after = refusal.retry_after or _RETRY_AFTER.get(reason)
    if retry_after:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(retry_after)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for each, detail in zip(packed, details, strict=True):
        each.Pack(detail)
    code = STATUS[reason]
    status = rpc_status.to_status(status_pb2.Status(code=code.value[0], message=reason.value, details=packed))
    context.set_code(code)
    context.set_details(status.details)
    context.set_trailing_metadata(status.trailing_metadata)
    return code
