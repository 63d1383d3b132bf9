"""Every RPC of krr.v1, found in the contract's descriptors and callable by any caller."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import krr.v1
from google.protobuf import message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for module in pkgutil.iter_modules(krr.v1.__path__):
        if module.name.endswith("_pb2"):
            file: FileDescriptor = importlib.import_module(f"krr.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                for method in service.methods:
                    yield f"{service.name}/{method.name}", method


# By service and name, such as "CitizenService/Reserve".
RPCS: Mapping[str, MethodDescriptor] = dict(_methods())


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    told: everything but a response that the caller was told: message, details, metadata.
    """

    code: grpc.StatusCode
    response: Any = None
    infos: tuple[error_details_pb2.ErrorInfo, ...] = ()
    fields: tuple[str, ...] = ()
    retry_after: float | None = None
    told: str = ""

    @property
    def reason(self) -> str:
        return self.infos[0].reason if self.infos else ""


@dataclass
class Rpcs:
    """Calls the server at the address, without deadline and retries of the client's own."""

    address: str
    _channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self._channel = grpc.insecure_channel(self.address)

    def close(self) -> None:
        self._channel.close()

    def call(
        self,
        rpc: str,
        request: Any = None,
        caller: str | None = None,
        *,
        metadata: tuple[tuple[str, str | bytes], ...] = (),
        timeout: float = 20,
    ) -> Outcome:
        """Call the RPC as `caller`, such as "citizen/11822648950"; None for no credential.

        Of a stream the first response is taken, and the call then cancelled.
        """
        method = RPCS[rpc]
        if request is None:
            request = message_factory.GetMessageClass(method.input_type)()
        call = self.stream(rpc, [request], caller, metadata=metadata, timeout=timeout)
        try:
            response = next(call)
            # A refused call has an empty response before its status.
            if not method.server_streaming:
                next(call, None)
            return Outcome(grpc.StatusCode.OK, response)
        except grpc.RpcError as error:
            return outcome_of(error)
        finally:
            call.cancel()

    def stream(
        self,
        rpc: str,
        requests: Iterable[Any],
        caller: str | None,
        *,
        metadata: tuple[tuple[str, str | bytes], ...] = (),
        timeout: float | None = 20,
    ) -> Any:
        """Call the RPC with any number of requests; gRPC's iterator of the responses."""
        method = RPCS[rpc]
        if caller is not None:
            metadata = (*metadata, ("authorization", f"Development {caller}"))
        # On the wire every call is a stream of requests and one of responses.
        call: Any = self._channel.stream_stream(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )
        return call(iter(requests), metadata=metadata, timeout=timeout)


def outcome_of(error: Any) -> Outcome:
    """How the call ended that raised the error."""
    infos, fields, retry_after = [], [], None
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, bad, retry = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RetryInfo(),
        )
        if detail.Unpack(info):
            infos.append(info)
        elif detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToMilliseconds() / 1000
    told = f"{error.details()} {error.trailing_metadata()!r} {status}"
    return Outcome(error.code(), None, tuple(infos), tuple(fields), retry_after, told)
