"""Refusals of the register as exceptions."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class RegisterError(grpc.RpcError):
    """A call that the register, or the way to it, refused.

    reason: a name of krr.v1.ErrorReason without its prefix, such as "RESERVED"; empty where
        the transport itself failed.
    status: the gRPC status code.
    fields: (field, description) for each field to blame.
    retry_after: seconds to wait before a retry that can help; None where none can.
    """

    def __init__(self, call: grpc.Call) -> None:
        self.status = call.code()
        self.reason = ""
        self.fields: tuple[tuple[str, str], ...] = ()
        self.retry_after: float | None = None
        rich = rpc_status.from_call(call)
        for detail in rich.details if rich else ():
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                self.reason = info.reason
            elif detail.Unpack(bad):
                self.fields = tuple((v.field, v.description) for v in bad.field_violations)
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToMilliseconds() / 1000
        super().__init__(f"{self.reason or self.status.name}: {call.details()}")
