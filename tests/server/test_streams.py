"""Calls that hold a thread: capped together, given back however they end, cut off where they stall."""

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from krr.v1 import admin_service_pb2, person_pb2
from krr.v1 import mailbox_operator_service_pb2 as operator_pb
from krr.v1 import register_service_pb2 as pb
from krr_client import RegisterError
from opentelemetry.sdk.trace import ReadableSpan

from server.__main__ import Server
from server.config import Settings
from tests.conftest import Register
from tests.people import DIGIPOST, OLA, register_request, request_id
from tests.people import synthetic_identifiers as people
from tests.server.process import SERVING, health
from tests.server.rpcs import Rpcs
from tests.server.test_changes import update
from tests.server.test_look_up import EMAIL, load
from tests.server.valid_requests import AT_DIGIPOST, LOG_IN_SERVICE, PUBLIC
from tests.server.watching import Talk, Watch, wait_until, watch_changes, watch_mailboxes

LIMIT = 10
LONG = Duration(seconds=30)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A cap that is soon reached, and a stall time as short as may be."""
    return settings.model_copy(update={"max_streams": LIMIT, "stream_stall_seconds": 1})


def test_who_sends_nothing_is_cut_off_and_who_sends_in_time_is_not(rpcs: Rpcs) -> None:
    silent, slow = Talk(rpcs), Talk(rpcs)
    began = time.monotonic()

    while time.monotonic() - began < 3:
        slow.ask(OLA)
        slow.watch.page()
        time.sleep(0.3)

    assert silent.watch.outcome(within=1).code is StatusCode.CANCELLED
    slow.ask(OLA)
    slow.close()
    assert slow.watch.outcome().code is StatusCode.OK


def test_a_watch_whose_request_never_comes_is_cut_off(rpcs: Rpcs) -> None:
    never: queue.SimpleQueue[Any] = queue.SimpleQueue()
    watches = [
        Watch(rpcs, "RegisterService/WatchChanges", iter(never.get, None), PUBLIC) for _ in range(LIMIT)
    ]
    wait_until(lambda: watch_changes(rpcs).outcome().reason == "TOO_MANY_STREAMS", 1, "they are counted")

    for watch in watches:
        assert watch.outcome().code is StatusCode.CANCELLED
    assert watch_changes(rpcs).page().caught_up
    for _ in watches:
        never.put(None)


def test_when_the_server_ends_a_stream_may_send_a_last_request_and_is_told(settings: Settings) -> None:
    server = Server(settings.model_copy(update={"stream_stall_seconds": 30}))
    rpcs = Rpcs(f"127.0.0.1:{server.port}")
    active, idle = Talk(rpcs), Talk(rpcs)
    for talk in (active, idle):
        talk.ask(OLA)
        talk.watch.page()
    began = time.monotonic()
    ending = threading.Thread(target=server.end)
    ending.start()
    time.sleep(0.3)

    active.ask(OLA)

    ended = active.watch.outcome(within=1)
    assert (ended.code, ended.reason) == (StatusCode.UNAVAILABLE, "SERVER_ENDING")
    assert ended.retry_after
    # Cut off: by the call, or by the connection that ends with the last call.
    assert idle.watch.outcome().code in (StatusCode.CANCELLED, StatusCode.UNAVAILABLE)
    ending.join()
    assert time.monotonic() - began < 3
    rpcs.close()


def reflection(server: Server) -> tuple[Any, Any]:
    """A reflection stream that stays open, and its channel."""
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = queue.SimpleQueue[Any]()
    asked.put(reflection_pb2.ServerReflectionRequest(list_services=""))
    call = stub.ServerReflectionInfo(iter(asked.get, None), timeout=20)
    next(call)
    call.add_done_callback(lambda _: asked.put(None))
    return call, channel


def long_poll(rpcs: Rpcs, cursor: str) -> Watch:
    request = pb.ListChangesRequest(after_cursor=cursor, wait=LONG)
    return Watch(rpcs, "RegisterService/ListChanges", [request], PUBLIC)


def refused_for_too_many(outcome: Any) -> bool:
    return bool(
        (outcome.code, outcome.reason) == (StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        and outcome.retry_after
    )


def test_any_mixture_reaches_the_cap_and_what_holds_no_thread_still_answers(
    settings: Settings, register: Register, rpcs: Rpcs, server: Server
) -> None:
    load(register, OLA, email=EMAIL)
    cursor = watch_changes(rpcs, timeout=0.5).page().cursor
    wait_until(lambda: not server._streams._open, 2, "that one has ended")
    watches = [watch_changes(rpcs), watch_changes(rpcs), watch_mailboxes(rpcs)]
    for watch in watches:
        watch.page()
    talks = [Talk(rpcs) for _ in range(2)]
    keep_talking = threading.Event()

    def talk_on() -> None:
        while not keep_talking.wait(0.3):
            for talk in talks:
                talk.ask(OLA)

    threading.Thread(target=talk_on, daemon=True).start()
    polls = [long_poll(rpcs, cursor) for _ in range(3)]
    reflections = [reflection(server) for _ in range(2)]
    wait_until(lambda: len(server._streams._open) == LIMIT, 3, "the cap is reached")

    for _ in range(30):
        assert refused_for_too_many(watch_changes(rpcs).outcome())
    assert refused_for_too_many(watch_mailboxes(rpcs).outcome())
    assert refused_for_too_many(long_poll(rpcs, cursor).outcome())
    refused = Talk(rpcs)
    refused.ask(OLA)
    assert refused_for_too_many(refused.watch.outcome())
    with pytest.raises(grpc.RpcError) as error:
        reflection(server)
    assert error.value.code() is StatusCode.RESOURCE_EXHAUSTED
    for request in (pb.ListChangesRequest(), pb.ListChangesRequest(after_cursor=cursor)):
        assert rpcs.call("RegisterService/ListChanges", request, PUBLIC, timeout=2).code is StatusCode.OK
    single = pb.LookUpPersonsRequest(identifiers=[OLA], purpose=pb.PURPOSE_NOTICE)
    assert rpcs.call("RegisterService/LookUpPersons", single, PUBLIC, timeout=2).code is StatusCode.OK
    assert health(rpcs.address) == SERVING
    for watch in watches[:2]:
        assert watch.no_page(within=0.1)

    keep_talking.set()
    update(register, OLA, "ola@example.org")
    for poll in polls:
        assert poll.page(within=2).persons
    for call, channel in reflections:
        call.cancel()
        channel.close()


CLIENT = """
import sys, time, grpc
from krr.v1 import register_service_pb2 as pb, register_service_pb2_grpc
channel = grpc.insecure_channel(sys.argv[1])
stub = register_service_pb2_grpc.RegisterServiceStub(channel)
credential = (("authorization", "Development " + sys.argv[2]),)
calls = [stub.WatchChanges(pb.WatchChangesRequest(), metadata=credential) for _ in range(int(sys.argv[3]))]
for call in calls:
    next(call)
print("watching", flush=True)
time.sleep(60)
"""


def test_the_slots_of_a_client_that_was_killed_come_back(rpcs: Rpcs) -> None:
    command = [sys.executable, "-c", CLIENT, rpcs.address, PUBLIC, str(LIMIT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert client.stdout.readline() == "watching\n"
        assert refused_for_too_many(watch_changes(rpcs).outcome())
        client.kill()

    wait_until(lambda: not refused_for_too_many(_first(watch_changes(rpcs))), 2, "its slots are free")
    for watch in [watch_changes(rpcs) for _ in range(LIMIT - 1)]:
        watch.page()


def _first(watch: Watch) -> Any:
    """How the call ended, where it did at once; it is cancelled otherwise."""
    time.sleep(0.1)
    watch.cancel()
    return watch.outcome()


def test_after_300_streams_that_ended_in_every_way_the_cap_is_whole_and_nothing_is_left_over(
    register: Register, rpcs: Rpcs, server: Server, database: Any
) -> None:
    load(register, OLA, email=EMAIL)
    before = set(threading.enumerate())
    cursor = watch_changes(rpcs, timeout=1).page().cursor
    wait_until(lambda: not server._streams._open, 2, "that one has ended")

    def cancelled() -> Watch:
        watch = watch_changes(rpcs)
        watch.page()
        watch.cancel()
        return watch

    def failed() -> Watch:
        talk = Talk(rpcs)
        talk.ask(OLA)
        talk.ask()
        return talk.watch

    def closed() -> Watch:
        talk = Talk(rpcs)
        talk.ask(OLA)
        talk.close()
        return talk.watch

    def abandoned_poll() -> Watch:
        poll = long_poll(rpcs, cursor)
        time.sleep(0.02)
        poll.cancel()
        return poll

    ways: list[tuple[Callable[[], Watch], StatusCode]] = [
        (cancelled, StatusCode.CANCELLED),
        (lambda: watch_changes(rpcs, timeout=0.1), StatusCode.DEADLINE_EXCEEDED),
        (lambda: watch_changes(rpcs, "x"), StatusCode.INVALID_ARGUMENT),
        (failed, StatusCode.INVALID_ARGUMENT),
        (closed, StatusCode.OK),
        (abandoned_poll, StatusCode.CANCELLED),
    ]

    for way, code in ways * 5:
        for watch in [way() for _ in range(LIMIT)]:
            assert watch.outcome().code is code, way
        wait_until(lambda: not server._streams._open, 2, f"slots are free after {code}")

    names = [thread.name.partition("_")[0] for thread in threading.enumerate() if thread not in before]
    assert names.count("stream") <= LIMIT + 8
    assert len(names) < 100
    [(connections,)] = database.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'krr' AND datname = current_database()"
    ).fetchall()
    assert connections <= server._store._engine.pool.size() + 8  # type: ignore[attr-defined]  # a QueuePool's
    # The counter reads on, now and then.
    wait_until(
        lambda: server._store._engine.pool.checkedout() == 0,  # type: ignore[attr-defined]  # a QueuePool's
        2,
        "no connection is held",
    )
    watches = [watch_changes(rpcs) for _ in range(LIMIT)]
    for watch in watches:
        watch.page()
    assert refused_for_too_many(watch_changes(rpcs).outcome())


def large_certificate() -> bytes:
    """A person's certificate that is nearly as large as may be."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = person_pb2.ContactPoint().updated_time.ToDatetime()
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x" * 9000)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now.replace(year=2040))
        .add_extension(padding, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def load_much(register: Register, count: int) -> None:
    """Persons whose pages fill every buffer between the server and a client."""
    certificate = large_certificate()
    persons = [
        admin_service_pb2.PersonToLoad(
            identifier=identifier,
            status=person_pb2.PERSON_STATUS_ACTIVE,
            reservation=person_pb2.RESERVATION_NOT_RESERVED,
            email=EMAIL if not number else None,
            mailboxes=[
                person_pb2.Mailbox(
                    operator_organisation_number=DIGIPOST,
                    address=f"address#{number:04}",
                    certificate=certificate,
                )
            ],
            chosen_operator_organisation_number=DIGIPOST,
        )
        for number, (identifier, _) in enumerate(zip(people(), range(count), strict=False))
    ]
    for start in range(0, count, 100):
        register.as_administrator().LoadPersons(
            admin_service_pb2.LoadPersonsRequest(
                request_id=request_id(), persons=persons[start : start + 100]
            )
        )


@pytest.fixture
def narrow(server: Server) -> Iterator[grpc.Channel]:
    """A channel that takes little in advance of what is read."""
    with grpc.insecure_channel(
        f"127.0.0.1:{server.port}",
        options=[("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 * 1024)],
    ) as channel:
        yield channel


def test_who_stops_reading_is_cut_off_and_costs_others_nothing(
    register: Register,
    rpcs: Rpcs,
    server: Server,
    narrow: grpc.Channel,
    spans: Callable[[], list[ReadableSpan]],
) -> None:
    load_much(register, 300)
    others = [watch_changes(rpcs, page_size=50), watch_mailboxes(rpcs, page_size=50)]
    for other in others:
        other.pages_until_caught_up()
    stalled = []
    for rpc, request, response, caller in (
        ("RegisterService/WatchChanges", pb.WatchChangesRequest, pb.WatchChangesResponse, PUBLIC),
        (
            "MailboxOperatorService/WatchMailboxes",
            operator_pb.WatchMailboxesRequest,
            operator_pb.WatchMailboxesResponse,
            AT_DIGIPOST,
        ),
    ):
        call: Any = narrow.unary_stream(
            f"/krr.v1.{rpc}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        stalled.append(call(request(page_size=50), metadata=(("authorization", f"Development {caller}"),)))
    wait_until(lambda: len(server._streams._open) == 4, 2, "they are counted")

    for number in range(12):
        update(register, next(iter(people())), f"email{number}@example.com")
        assert others[0].page(within=1).persons[0].email.value == f"email{number}@example.com"
        time.sleep(0.1)

    wait_until(lambda: len(server._streams._open) == 2, 3, "they are cut off")
    for call in stalled:
        with pytest.raises(grpc.RpcError) as ended:
            list(call)
        assert ended.value.code() is StatusCode.CANCELLED
    codes = {
        (span.attributes or {}).get("rpc.response.status_code") for span in spans() if "Watch" in span.name
    }
    assert codes == {"CANCELLED"}


def test_who_has_nothing_to_read_is_not_cut_off(register: Register, rpcs: Rpcs) -> None:
    load(register, OLA, email=EMAIL)
    watch, poll = watch_changes(rpcs), None
    poll = long_poll(rpcs, watch.page().cursor)

    time.sleep(3.5)

    update(register, OLA, "ola@example.org")
    for each in (watch, poll):
        assert each.page(within=1).persons


def test_a_register_error_tells_that_there_are_too_many(register: Register, rpcs: Rpcs) -> None:
    for watch in [watch_changes(rpcs) for _ in range(LIMIT)]:
        watch.page()

    with pytest.raises(RegisterError) as refused:
        next(register.as_public_body().WatchChanges(pb.WatchChangesRequest()))

    assert refused.value.reason == "TOO_MANY_STREAMS"
    assert refused.value.retry_after == 5
    assert rpcs.call("CitizenService/RegisterPerson", register_request(OLA), LOG_IN_SERVICE).response
