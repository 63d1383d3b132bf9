"""Who may call what; and that whoever may not is turned away before anything is read."""

from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from krr.v1 import citizen_service_pb2, register_service_pb2
from pydantic import ValidationError

from server import access
from server.__main__ import Server
from server.config import Settings
from tests.people import DIGIPOST, KARI, OLA, PUBLIC_BODY
from tests.server.rpcs import RPCS, Rpcs

CALLERS = {
    "public-body": f"public-body/{PUBLIC_BODY}",
    "operator": f"operator/{DIGIPOST}",
    "citizen": f"citizen/{OLA}",
    "log-in-service": f"log-in-service/{PUBLIC_BODY}",
    "adapter": "adapter/digipost",
    "administrator": "administrator/test",
}
# Whose each service is; the log-in service acts on a citizen's behalf in two methods.
SERVICE_OF = {
    "RegisterService": "public-body",
    "CitizenService": "citizen",
    "MailboxOperatorService": "operator",
    "DeliveryService": "adapter",
    "AdminService": "administrator",
}
ON_BEHALF = ("CitizenService/GetPerson", "CitizenService/RegisterPerson")
TURNED_AWAY = ("CREDENTIAL_MISSING", "CREDENTIAL_REFUSED", "CALLER_NOT_ALLOWED")


def test_each_rpc_is_for_its_callers_only_and_others_are_turned_away_without_a_query(
    rpcs: Rpcs, statements: list[str]
) -> None:
    for rpc in RPCS:
        for kind, caller in CALLERS.items():
            may = kind == SERVICE_OF[rpc.split("/")[0]] or (kind == "log-in-service" and rpc in ON_BEHALF)
            statements.clear()

            outcome = rpcs.call(rpc, caller=caller)

            if may:
                assert outcome.reason not in TURNED_AWAY, f"{rpc} {kind}"
            else:
                assert outcome.code is StatusCode.PERMISSION_DENIED, f"{rpc} {kind}"
                assert outcome.reason == "CALLER_NOT_ALLOWED", f"{rpc} {kind}"
                assert not statements, f"{rpc} {kind}"


def test_a_look_up_does_run_statements(rpcs: Rpcs, statements: list[str]) -> None:
    rpcs.call("RegisterService/ListChanges", caller=CALLERS["public-body"])

    assert statements


def test_no_rpc_answers_a_call_without_a_credential(rpcs: Rpcs, statements: list[str]) -> None:
    for rpc in RPCS:
        for metadata in ((), (("authorization", ""),), (("authorization-bin", b"Development x/y"),)):
            outcome = rpcs.call(rpc, metadata=metadata)
            assert outcome.code is StatusCode.UNAUTHENTICATED, rpc
            assert outcome.reason == "CREDENTIAL_MISSING", rpc
    assert not statements


@pytest.mark.parametrize("rpc", ["RegisterService/ListChanges", "AdminService/ListMessages"])
def test_a_malformed_credential_is_refused_and_not_quoted(
    rpcs: Rpcs, statements: list[str], rpc: str
) -> None:
    for credential in (
        "Development",
        "Development administrator",
        "Development administrator/",
        "Development /test",
        "Development administrator/Test",
        "Development administrator/test/test",
        "Development administrator/" + "x" * 65,
        "Development administrator/" + "x" * 5000,
        "Development  administrator/test",
        "development administrator/test",
        "Development Administrator/test",
        "administrator/test",
        "Bearer administrator/test",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Development administrator/test,Development administrator/test",
        "Development superuser/test",
        "Development public-body/991825828",
        "Development public-body/0192:991825827",
        "Development public-body/99182582",
        "Development public-body/test",
        "Development operator/984661186",
        "Development log-in-service/test",
        "Development citizen/11822648951",
        f"Development citizen/{DIGIPOST}",
        "Development citizen/test",
    ):
        outcome = rpcs.call(rpc, metadata=(("authorization", credential),))

        assert outcome.code is StatusCode.UNAUTHENTICATED, credential
        assert outcome.reason == "CREDENTIAL_REFUSED", credential
        subject = credential.rpartition("/")[2]
        assert len(subject) < 5 or subject not in outcome.told, credential
    assert not statements


def test_of_two_credentials_in_one_call_neither_is_believed(rpcs: Rpcs, statements: list[str]) -> None:
    public, staff = (f"Development {CALLERS[kind]}" for kind in ("public-body", "administrator"))

    for first, second in ((public, staff), (staff, public), (public, public)):
        outcome = rpcs.call(
            "RegisterService/ListChanges", metadata=(("authorization", first), ("authorization", second))
        )
        assert outcome.reason == "CREDENTIAL_REFUSED"
    assert not statements


def test_a_citizen_asking_for_another_is_turned_away_without_a_query(
    rpcs: Rpcs, statements: list[str]
) -> None:
    outcome = rpcs.call(
        "CitizenService/GetPerson", citizen_service_pb2.GetPersonRequest(identifier=KARI), f"citizen/{OLA}"
    )

    assert (outcome.code, outcome.reason) == (StatusCode.PERMISSION_DENIED, "OTHER_PERSON")
    assert not statements


def test_a_method_that_is_not_in_the_contract_is_unimplemented(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for method in ("/krr.v1.AdminService/DropAll", "/krr.v2.RegisterService/ListChanges", "/x"):
            call: Any = channel.unary_unary(method)
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=5)
            error: Any = refused.value
            assert error.code() is StatusCode.UNIMPLEMENTED


def test_anyone_may_ask_for_health(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", *(f"krr.v1.{name}" for name in SERVICE_OF)):
            answer = stub.Check(
                health_pb2.HealthCheckRequest(service=service), timeout=5, wait_for_ready=True
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_every_method_of_the_contract_has_a_row_in_the_policy() -> None:
    served = {f"{method.containing_service.full_name}/{method.name}" for method in RPCS.values()}

    assert set(access.POLICY) == served
    assert all(access.POLICY.values())


def test_the_server_does_not_start_with_a_method_that_nobody_has_a_policy_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "krr.v1.RegisterService/ListChanges"
    monkeypatch.setattr(access, "POLICY", {k: v for k, v in access.POLICY.items() if k != missing})

    with pytest.raises(access.PolicyGap, match=missing):
        Server(settings)


def test_the_server_does_not_start_with_a_policy_for_a_method_that_is_not_served(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "POLICY", {**access.POLICY, "krr.v1.RegisterService/Gone": frozenset()})

    with pytest.raises(access.PolicyGap, match=r"krr\.v1\.RegisterService/Gone"):
        Server(settings)


def test_development_credentials_are_for_loopback_only(settings: Settings) -> None:
    given = settings.model_dump()
    for listen in (
        "0.0.0.0:50051",
        "[::]:50051",
        ":50051",
        "50051",
        "192.0.2.1:50051",
        "register.example.org:50051",
        "127.0.0.1.example.org:50051",
        "127.0.0.1:50051,0.0.0.0:50051",
        "ipv4:0.0.0.0:50051",
        "unix:/tmp/register",
    ):
        with pytest.raises(ValidationError, match="loopback only"):
            Settings(**given | {"listen": listen})
        assert not Settings(
            **given | {"listen": listen, "development_credentials": False}
        ).development_credentials
    for listen in ("127.0.0.1:50051", "127.3.2.1:50051", "[::1]:50051", "localhost:50051"):
        assert Settings(**given | {"listen": listen}).listen == listen


def test_without_development_credentials_nobody_is_believed(settings: Settings) -> None:
    server = Server(settings.model_copy(update={"development_credentials": False}))
    rpcs = Rpcs(f"127.0.0.1:{server.port}")

    for rpc in RPCS:
        for caller in CALLERS.values():
            assert rpcs.call(rpc, caller=caller).reason == "CREDENTIAL_REFUSED"
    rpcs.close()
    server.end()


def test_a_register_that_takes_no_synthetic_persons_refuses_them_as_callers_and_in_requests(
    settings: Settings,
) -> None:
    server = Server(settings.model_copy(update={"synthetic_identifiers": False}))
    rpcs = Rpcs(f"127.0.0.1:{server.port}")
    look_up = register_service_pb2.LookUpPersonsRequest(
        identifiers=[OLA], purpose=register_service_pb2.PURPOSE_NOTICE
    )

    as_citizen = rpcs.call("CitizenService/GetPerson", caller=CALLERS["citizen"])
    on_behalf = rpcs.call(
        "CitizenService/GetPerson",
        citizen_service_pb2.GetPersonRequest(identifier=OLA),
        CALLERS["log-in-service"],
    )
    [entry] = rpcs.call("RegisterService/LookUpPersons", look_up, CALLERS["public-body"]).response.entries

    assert as_citizen.reason == "CREDENTIAL_REFUSED"
    assert on_behalf.reason == "SYNTHETIC_IDENTIFIER"
    assert entry.refusal
    assert not entry.HasField("person")
    rpcs.close()
    server.end()
