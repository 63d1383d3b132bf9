"""The population register's sandbox on a real socket, and letters by it, for the tests of letters."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from krr.v1 import delivery_service_pb2 as pb
from krr.v1 import person_pb2

from adapters.letter import LetterSettings
from adapters.sandbox.population_register import PATH
from tests.adapters.sandbox import Sandbox, http

# By their last two digits (adapters/sandbox/population_register.py), all synthetic.
AT_HOME = "11887197158"
ABROAD = "11887197115"
STRICTLY_PROTECTED = "11887197101"
PROTECTED = "11887197104"
DEAD = "11887197107"
WITHOUT_ADDRESS = "11887197109"


def letter_message(**other: Any) -> pb.Message:
    message = pb.Message(
        **{
            "message_id": str(uuid.uuid4()),
            "lease_token": "lease",
            "kind": pb.MESSAGE_KIND_SHARED_CONTACT_LETTER,
            "language": person_pb2.LANGUAGE_NB,
            "synthetic_person": True,
            "contact_kind": person_pb2.CONTACT_KIND_EMAIL,
            "deadline_date": "2090-12-01",
            "identifier": AT_HOME,
            **other,
        }
    )
    if "expires_time" not in other:
        message.expires_time.FromDatetime(datetime.now(UTC) + timedelta(days=14))
    return message


class Persons(Sandbox):
    """A running population register."""

    def __init__(self, url: str, data: Path) -> None:
        super().__init__(url)
        self.token_file = data / "token"

    def begin_anew(self) -> None:
        self.behave("normal")

    def settings(self, folder: Path, **other: Any) -> LetterSettings:
        return LetterSettings(
            **{
                "folder": folder,
                "batch_seconds": 0.2,
                "gateway_is_sandbox": True,
                "population_register_url": self.url + PATH.removesuffix("/personer/bulkoppslag"),
                "population_register_token_file": self.token_file,
                **other,
            }
        )

    def tell(self, **resident: Any) -> None:
        http.put(f"{self.url}/sandbox/addresses", json=[resident]).raise_for_status()

    def look_up(self, body: object, token: str | None = None, parts: str = "") -> httpx.Response:
        bearer = self.token_file.read_text() if token is None else token
        return http.post(f"{self.url}{PATH}{parts}", json=body, headers={"Authorization": f"Bearer {bearer}"})
