"""The e-Boks sandbox on a real socket, for the tests of the adapter."""

from pathlib import Path

import httpx

from adapters.adapter import Done, Refused, TryLater
from adapters.eboks import EBoksAdapter, EBoksSettings, ListingEBoksAdapter
from tests.adapters.sandbox import PERSON, Sandbox, http, wish


class EBoks(Sandbox):
    """A running sandbox, and an adapter that talks to it."""

    def __init__(self, url: str, data: Path) -> None:
        super().__init__(url)
        self.token_file = data / "token"
        self.token = self.token_file.read_text()
        self.adapter = self.adapter_for(url)

    def adapter_for(self, url: str, deadline_seconds: float = 5.0) -> EBoksAdapter:
        return eboks_adapter(url, self.token_file, deadline_seconds)

    def switch(self, on: bool, identifier: str = PERSON) -> Done | TryLater | Refused:
        return self.adapter.deliver(wish(on, identifier))

    def query(self, body: object, **headers: str) -> httpx.Response:
        return http.post(
            f"{self.url}/v1/public-mailbox/query",
            json=body,
            headers={"Authorization": f"Bearer {self.token}", **headers},
        )

    def write(self, receives: object, version: int, key: str) -> httpx.Response:
        return http.put(
            f"{self.url}/v1/public-mailbox",
            json={"identifier": PERSON, "receivesPublicMail": receives},
            headers={
                "Authorization": f"Bearer {self.token}",
                "If-Match": f'"{version}"',
                "Idempotency-Key": key,
            },
        )

    def version(self) -> int:
        return int(self.query({"identifier": PERSON}).json()["version"])


def eboks_adapter(url: str, token_file: Path, deadline_seconds: float = 5.0) -> EBoksAdapter:
    return EBoksAdapter(EBoksSettings(url=url, token_file=token_file, deadline_seconds=deadline_seconds))


def listing_adapter(url: str, token_file: Path) -> ListingEBoksAdapter:
    return ListingEBoksAdapter(EBoksSettings(url=url, token_file=token_file, deadline_seconds=15))
