"""The client with the oldest grpcio that it says it works with."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from krr.v1 import register_service_pb2 as pb

from server.__main__ import Server
from tests.conftest import Register
from tests.people import KARI, OLA, PUBLIC_BODY, register_request

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "clients/python"
OLDEST = {"grpcio": "1.80.0", "grpcio-status": "1.80.0", "protobuf": "6.31.1"}

PROGRAM = """
import sys
from krr.v1 import register_service_pb2 as pb
from krr_client import connect, follow_changes, look_up_persons
with connect(sys.argv[1], sys.argv[2]) as channel:
    [entry] = look_up_persons(channel, [sys.argv[3]], purpose=pb.PURPOSE_NOTICE)
    print(entry.person.change_number)
    with follow_changes(channel) as pages:
        print([person.identifier for person in next(pages).persons])
"""


def test_the_client_says_which_versions_it_needs() -> None:
    dependencies = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(dependencies) == sorted(
        f"{name}>={version.removesuffix('.0')}" for name, version in OLDEST.items()
    )


@pytest.mark.full_size_figures
def test_the_client_works_with_the_oldest_versions_that_it_allows(
    full_size: bool, tmp_path: Path, server: Server, register: Register
) -> None:
    if not full_size:
        pytest.skip("downloads packages: part of make test-long")
    register.as_citizen(OLA).RegisterPerson(register_request(OLA))
    register.as_citizen(KARI).RegisterPerson(register_request(KARI, email="kari@example.com"))
    uv, python = str(Path(sys.executable).with_name("uv")), str(tmp_path / "venv/bin/python")
    subprocess.run([uv, "venv", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    packages = [f"{name}=={version}" for name, version in OLDEST.items()]
    subprocess.run([uv, "pip", "install", "--python", python, *packages], check=True)
    answer = subprocess.run(
        [python, "-c", PROGRAM, f"127.0.0.1:{server.port}", f"Development public-body/{PUBLIC_BODY}", OLA],
        env={"PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    request = pb.LookUpPersonsRequest(identifiers=[OLA], purpose=pb.PURPOSE_NOTICE)
    [entry] = register.as_public_body().LookUpPersons(request).entries
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == str(entry.person.change_number)
    assert answer.stdout.splitlines()[1] == str([OLA, KARI])
