"""Refusals of the register as exceptions."""

from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

_DOMAIN = "krr.v1"


class RegisterError(grpc.RpcError):
    """A call that the register, or the way to it, refused. Its text holds no personal data.

    reason: a name of krr.v1.ErrorReason without its prefix, such as "RESERVED"; empty where
        the transport itself failed.
    status: the gRPC status code.
    fields: (field, description) for each field to blame.
    retry_after: seconds to wait before a retry that can help; None where the register names
        none.
    """

    def __init__(
        self,
        status: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        fields: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        self.retry_after = retry_after
        self._message = message
        super().__init__(f"{reason or status.name}: {message}")

    @classmethod
    def of(cls, call: Any) -> "RegisterError":
        """The refusal that ended the call."""
        reason = ""
        fields: tuple[tuple[str, str], ...] = ()
        retry_after = None
        try:
            for detail in (rpc_status.from_call(call) or status_pb2.Status()).details:
                info, bad, retry = (
                    error_details_pb2.ErrorInfo(),
                    error_details_pb2.BadRequest(),
                    error_details_pb2.RetryInfo(),
                )
                if detail.Unpack(info):
                    reason = info.reason if info.domain == _DOMAIN else ""
                elif detail.Unpack(bad):
                    fields = tuple((v.field, v.description) for v in bad.field_violations)
                elif detail.Unpack(retry):
                    retry_after = retry.retry_delay.ToMilliseconds() / 1000
        except (ValueError, DecodeError):
            # Details that nobody can read are no reason to lose the status.
            pass
        return cls(call.code(), call.details() or "", reason=reason, fields=fields, retry_after=retry_after)

    # What interceptors that are put round the channel ask of a failed call.

    def code(self) -> grpc.StatusCode:
        """The gRPC status code."""
        return self.status

    def details(self) -> str:
        """The refusal in words."""
        return self._message

    def result(self, timeout: float | None = None) -> NoReturn:  # noqa: ARG002 (as in gRPC)
        """Raises this error."""
        raise self


class BrokenAnswer(RegisterError):
    """The register answered against its contract. Nothing of the answer was handed over."""

    def __init__(self, message: str) -> None:
        super().__init__(grpc.StatusCode.INTERNAL, message)
