"""Every call has a deadline, a credential and a request id; every refusal is a RegisterError."""

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from krr.v1 import admin_service_pb2, citizen_service_pb2
from krr.v1 import mailbox_operator_service_pb2 as operator_pb
from krr.v1 import register_service_pb2 as pb
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr.v1.citizen_service_pb2_grpc import CitizenServiceStub
from krr.v1.register_service_pb2_grpc import RegisterServiceStub
from krr_client import RegisterError, connect, follow_changes
from krr_client.channel import STREAM_TIMEOUT, STREAMS
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient

from tests.clients.conftest import CREDENTIAL
from tests.clients.scripted_register import (
    ScriptedRegister,
    Wire,
    after,
    crashes,
    is_silent,
    refuses,
    refuses_unreadably,
    right,
    sends_garbage,
)
from tests.people import KARI, OLA, request_id
from tests.server.rpcs import RPCS

AWAY = refuses(StatusCode.UNAVAILABLE)


def unary(channel: grpc.Channel, **settings: Any) -> Any:
    return RegisterServiceStub(channel).LookUpPersons(pb.LookUpPersonsRequest(identifiers=["1"]), **settings)


def future(channel: grpc.Channel, **settings: Any) -> Any:
    request = pb.LookUpPersonsRequest(identifiers=["1"])
    return RegisterServiceStub(channel).LookUpPersons.future(request, **settings).result()


def with_call(channel: grpc.Channel, **settings: Any) -> Any:
    request = pb.LookUpPersonsRequest(identifiers=["1"])
    answer, call = RegisterServiceStub(channel).LookUpPersons.with_call(request, **settings)
    assert call.code() is StatusCode.OK
    return answer


def unary_stream(channel: grpc.Channel, **settings: Any) -> Any:
    return next(RegisterServiceStub(channel).WatchChanges(pb.WatchChangesRequest(), **settings))


def stream_unary(channel: grpc.Channel, **settings: Any) -> Any:
    requests = iter([admin_service_pb2.ImportPersonsRequest()] * 3)
    return AdminServiceStub(channel).ImportPersons(requests, **settings)


def stream_stream(channel: grpc.Channel, **settings: Any) -> Any:
    requests = iter([pb.LookUpPersonsStreamRequest(identifiers=["1"])])
    return next(RegisterServiceStub(channel).LookUpPersonsStream(requests, **settings))


KINDS = [unary, future, with_call, unary_stream, stream_unary, stream_stream]
every_kind = pytest.mark.parametrize("call", KINDS)
Call = Callable[..., Any]


@every_kind
def test_every_call_carries_the_credential_and_a_deadline(
    scripted: ScriptedRegister, channel: grpc.Channel, call: Call
) -> None:
    call(channel)

    assert ("authorization", CREDENTIAL) in [
        tuple(each) for each in scripted.contexts[0].invocation_metadata()
    ]
    expected = 10 if call in (unary, future, with_call) else STREAM_TIMEOUT
    # gRPC rounds a long deadline up on its way.
    assert expected * 0.9 < scripted.seconds_left[0] < expected * 1.1


@every_kind
def test_a_call_may_name_its_own_deadline(
    scripted: ScriptedRegister, channel: grpc.Channel, call: Call
) -> None:
    call(channel, timeout=77)
    assert 70 < scripted.seconds_left[0] < 78


@every_kind
def test_a_deadline_that_passes_is_raised_and_not_retried(
    scripted: ScriptedRegister, channel: grpc.Channel, call: Call
) -> None:
    scripted.acts.extend([is_silent, right])

    with pytest.raises(RegisterError) as raised:
        call(channel, timeout=0.2)

    assert (raised.value.status, raised.value.reason) == (StatusCode.DEADLINE_EXCEEDED, "")
    assert len(scripted.calls) == 1


REFUSALS = {
    "aborted": (StatusCode.ABORTED, "CHANGED_SINCE", None),
    "conflict": (StatusCode.ABORTED, "CONFLICT", 0.1),
    "reserved": (StatusCode.FAILED_PRECONDITION, "RESERVED", None),
    "deadline of the register's": (StatusCode.DEADLINE_EXCEEDED, "DEADLINE", None),
    "too many streams": (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", 5.0),
    "internal": (StatusCode.INTERNAL, "INTERNAL", None),
    "credential": (StatusCode.UNAUTHENTICATED, "CREDENTIAL_REFUSED", None),
    "cancelled": (StatusCode.CANCELLED, "", None),
    "unimplemented": (StatusCode.UNIMPLEMENTED, "", None),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@every_kind
def test_a_refusal_is_raised_with_its_reason_and_not_retried(
    scripted: ScriptedRegister, channel: grpc.Channel, call: Call, refusal: str
) -> None:
    status, reason, retry_after = REFUSALS[refusal]
    scripted.acts.extend([refuses(status, reason, retry_after=retry_after), right])

    with pytest.raises(RegisterError) as raised:
        call(channel)

    error = raised.value
    assert (error.status, error.reason, error.retry_after) == (status, reason, retry_after)
    assert len(scripted.calls) == 1


@pytest.mark.parametrize("call", [unary, future, with_call])
def test_unavailable_is_retried(scripted: ScriptedRegister, channel: grpc.Channel, call: Call) -> None:
    scripted.acts.extend([AWAY])
    assert call(channel).IsInitialized()
    assert len(scripted.calls) == 2


@pytest.mark.parametrize("call", [unary_stream, stream_unary, stream_stream])
def test_a_stream_is_not_retried(scripted: ScriptedRegister, channel: grpc.Channel, call: Call) -> None:
    scripted.acts.extend([AWAY])
    with pytest.raises(RegisterError):
        call(channel)
    assert len(scripted.calls) == 1


def test_every_stream_of_the_contract_is_known_to_the_channel() -> None:
    streams = {
        (rpc.containing_service.full_name, rpc.name)
        for rpc in RPCS.values()
        if rpc.client_streaming or rpc.server_streaming
    }
    assert set(STREAMS) == streams


def test_unavailable_for_ever_is_raised_after_four_attempts(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([refuses(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE", retry_after=0.5)] * 99)

    with pytest.raises(RegisterError) as raised:
        unary(channel)

    assert (raised.value.reason, raised.value.retry_after) == ("DATABASE_UNAVAILABLE", 0.5)
    assert len(scripted.calls) == 4


def test_retries_stop_where_most_calls_fail(scripted: ScriptedRegister, channel: grpc.Channel) -> None:
    scripted.acts.extend([AWAY] * 999)
    stub = RegisterServiceStub(channel)

    calls = [stub.LookUpPersons.future(pb.LookUpPersonsRequest()) for _ in range(40)]

    assert {type(call.exception()) for call in calls} == {RegisterError}
    assert len(scripted.calls) < 80


def test_a_stream_that_fails_after_an_answer_is_raised_from_its_iteration(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(after(2, refuses(StatusCode.UNAVAILABLE, "SERVER_ENDING", retry_after=0.1)))
    pages = []

    with pytest.raises(RegisterError) as raised:
        for page in RegisterServiceStub(channel).WatchChanges(pb.WatchChangesRequest()):
            pages.append(page.cursor)

    assert raised.value.reason == "SERVER_ENDING"
    assert pages == ["1-1", "1-2"]
    assert len(scripted.calls) == 1


def test_a_stream_can_be_cancelled_from_another_thread(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(is_silent)
    call = RegisterServiceStub(channel).WatchChanges(pb.WatchChangesRequest())
    threading.Timer(0.1, call.cancel).start()

    with pytest.raises(RegisterError) as raised:
        next(call)

    assert raised.value.status is StatusCode.CANCELLED


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (refuses_unreadably, StatusCode.UNAVAILABLE),
        (crashes, StatusCode.UNKNOWN),
        (sends_garbage, StatusCode.INTERNAL),
        (refuses(StatusCode.ABORTED, "SOMETHING", domain="a-proxy.example.com"), StatusCode.ABORTED),
    ],
    ids=["unreadable details", "crash", "garbage", "another's reason"],
)
def test_what_the_register_did_not_say_has_no_reason(
    scripted: ScriptedRegister, channel: grpc.Channel, act: Any, status: StatusCode
) -> None:
    scripted.acts.extend([act] * 4)

    with pytest.raises(RegisterError) as raised:
        unary(channel)

    assert (raised.value.status, raised.value.reason) == (status, "")


def reserve(channel: grpc.Channel, request: citizen_service_pb2.ReserveRequest) -> None:
    CitizenServiceStub(channel).Reserve(request)


def test_an_empty_request_id_is_filled_once_and_for_all(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.extend([AWAY, AWAY, right, refuses(StatusCode.ABORTED, "CONFLICT")])
    request = citizen_service_pb2.ReserveRequest(identifier=OLA)

    reserve(channel, request)
    with pytest.raises(RegisterError):
        reserve(channel, request)
    reserve(channel, request)
    reserve(channel, citizen_service_pb2.ReserveRequest(identifier=OLA))

    *same, another = [call.request_id for call in scripted.calls]
    assert len(same) == 5
    assert set(same) == {request.request_id}
    assert uuid.UUID(request.request_id).version == 4
    assert another != request.request_id


def test_a_request_id_of_the_callers_own_is_kept(scripted: ScriptedRegister, channel: grpc.Channel) -> None:
    own = request_id()
    reserve(channel, citizen_service_pb2.ReserveRequest(identifier=OLA, request_id=own))
    assert scripted.calls[0].request_id == own


def test_an_operators_event_has_an_id_too(channel: grpc.Channel) -> None:
    request = operator_pb.DeleteMailboxRequest(identifier=OLA)
    call = channel.unary_unary(
        "/scripted/Missing", operator_pb.DeleteMailboxRequest.SerializeToString, lambda data: data
    )

    with pytest.raises(RegisterError):
        call(request)

    assert uuid.UUID(request.event_id).version == 4


def test_an_error_tells_nothing_of_the_request(scripted: ScriptedRegister, channel: grpc.Channel) -> None:
    scripted.acts.append(refuses(StatusCode.ABORTED, "CONFLICT"))

    with pytest.raises(RegisterError) as raised:
        reserve(channel, citizen_service_pb2.ReserveRequest(identifier=KARI))

    assert KARI not in f"{raised.value!r} {raised.value} {vars(raised.value)}"


def test_a_future_does_not_wait_and_its_callback_sees_the_same_refusal(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(after(0, is_silent))
    seen: list[Any] = []
    done = threading.Event()
    call = RegisterServiceStub(channel).LookUpPersons.future(pb.LookUpPersonsRequest(), timeout=0.3)
    assert not call.done()

    def finished(answer: Any) -> None:
        seen.append(answer.exception())
        done.set()

    call.add_done_callback(finished)

    assert done.wait(10)
    assert isinstance(call.exception(), RegisterError)
    assert isinstance(seen[0], RegisterError)
    assert seen[0].status is StatusCode.DEADLINE_EXCEEDED


@every_kind
def test_a_closed_channel_is_a_value_error(channel: grpc.Channel, call: Call) -> None:
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        call(channel)


class _Outer(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation: Any, details: grpc.ClientCallDetails, request: Any) -> Any:
        return continuation(details, request)


def test_interceptors_of_the_callers_own_fit_round_the_channel(
    scripted: ScriptedRegister, channel: grpc.Channel
) -> None:
    scripted.acts.append(refuses(StatusCode.ABORTED, "CONFLICT"))
    outer = grpc.intercept_channel(channel, _Outer())

    with pytest.raises(RegisterError) as raised:
        unary(outer)

    assert raised.value.reason == "CONFLICT"
    assert unary(outer).entries


@pytest.fixture
def traced(scripted: ScriptedRegister) -> Iterator[grpc.Channel]:
    """A channel whose calls OpenTelemetry traces, all of them."""
    make: Any = GrpcInstrumentorClient  # it has no types
    instrumentor = make()
    instrumentor.instrument()
    with connect(f"127.0.0.1:{scripted.port}", CREDENTIAL) as opened:
        instrumentor.uninstrument()
        yield opened


@every_kind
def test_traces_fit_within_the_channel(scripted: ScriptedRegister, traced: grpc.Channel, call: Call) -> None:
    scripted.acts.extend([right, refuses(StatusCode.ABORTED, "CONFLICT")])

    assert call(traced).IsInitialized()
    with pytest.raises(RegisterError) as raised:
        call(traced)

    assert raised.value.reason == "CONFLICT"


def test_a_traced_feed_goes_on_after_a_cut(scripted: ScriptedRegister, traced: grpc.Channel) -> None:
    scripted.acts.extend([after(2, AWAY)])
    with follow_changes(traced, longest_delay=0.05) as feed:
        assert [next(feed).cursor for _ in range(4)] == ["1-1", "1-2", "1-3", "1-4"]


def test_a_server_that_is_torn_out_is_unavailable_and_found_again(wire: Wire, wired: grpc.Channel) -> None:
    unary(wired)
    wire.tear_out()
    with pytest.raises(RegisterError) as raised:
        unary(wired)
    assert raised.value.status is StatusCode.UNAVAILABLE

    wire.plug_in()
    unary(wired, wait_for_ready=True)
