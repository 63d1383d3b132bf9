"""`krr certificates` and those that `krr up` enters."""

import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from krr.v1 import certificate_pb2 as pb
from krr_cli.sandbox_certificates import enter_certificates

from server.__main__ import Server
from tests.certificates import DAY, organisation_certificate
from tests.clients.command_line import Krr, krr_at
from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, PUBLIC_BODY


@pytest.fixture
def krr(server: Server) -> Krr:
    return krr_at(server.port)


def listed(krr: Krr) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(krr("certificates", "list", "--json").stdout)["certificates"]
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "certificate"
    found.write_bytes(organisation_certificate(DIGIPOST))
    return found


def test_a_certificate_is_entered_shown_and_retired(krr: Krr, file: Path) -> None:
    added = krr("certificates", "add", "digipost", str(file))
    assert "changed; certificate 1 is CURRENT" in added.stdout
    assert "unchanged; certificate 1 is CURRENT" in krr("certificates", "add", DIGIPOST, str(file)).stdout

    retired = krr("certificates", "retire", "1")
    assert "changed; certificate 1 is RETIRED" in retired.stdout
    table = krr("certificates", "list").stdout
    for shown in ("MAILBOX", "digipost", "RETIRED", "1, 2", listed(krr)[0]["sha256_fingerprint"][:16]):
        assert shown in table


def test_pem_is_taken_as_der_is(krr: Krr, file: Path) -> None:
    der = file.read_bytes()
    file.write_text("\n" + ssl.DER_cert_to_PEM_cert(der))
    assert krr("certificates", "add", "digipost", str(file)).exit_code == 0
    file.write_bytes(der)
    assert "unchanged" in krr("certificates", "add", "digipost", str(file)).stdout


def test_the_next_certificate_for_print_is_entered_beforehand(krr: Krr, file: Path) -> None:
    file.write_bytes(organisation_certificate(PUBLIC_BODY))
    when = (datetime.now(UTC) + DAY).strftime("%Y-%m-%dT%H:%M:%SZ")

    added = krr("certificates", "add", PUBLIC_BODY, str(file), "--print", "--use-from", when)

    assert "is NEXT" in added.stdout
    [found] = listed(krr)
    assert (found["use"], found["use_from_time"]) == ("CERTIFICATE_USE_PRINT", when)


def test_what_is_wrong_is_said(krr: Krr, file: Path) -> None:
    refused = krr("certificates", "add", "eboks", str(file))
    assert (refused.exit_code, "CERTIFICATE_OF_ANOTHER" in refused.stderr) == (1, True)
    assert krr("certificates", "retire", "4711").exit_code == 1
    assert krr("certificates", "add", "digipost", str(file), "--use-from", "tomorrow").exit_code == 2
    file.write_text("-----BEGIN NOTHING-----")
    assert krr("certificates", "add", "digipost", str(file)).exit_code == 2
    assert listed(krr) == []


def test_the_sandbox_has_a_certificate_of_each_operator_and_for_print_and_makes_them_once(
    register: Register,
) -> None:
    for _ in range(2):
        enter_certificates(register.as_administrator())

    body = register.as_public_body()
    operators = body.ListMailboxOperators(pb.ListMailboxOperatorsRequest()).operators
    prints = body.GetPrintCertificate(pb.GetPrintCertificateRequest()).certificates
    current = pb.CERTIFICATE_STATE_CURRENT
    assert [[each.state for each in operator.certificates] for operator in operators] == [[current]] * 2
    assert {operator.organisation_number for operator in operators} == {DIGIPOST, EBOKS}
    assert [(each.organisation_number, each.state) for each in prints] == [(DIGIPOST, current)]
