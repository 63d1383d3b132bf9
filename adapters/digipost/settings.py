"""Settings of the Digipost adapter."""

from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class DigipostSettings(BaseSettings):
    """From the environment: KRR_DIGIPOST_URL and so on.

    url: of the API, such as https://api.digipost.no.
    broker_id: who we are to Digipost, X-Digipost-UserId; needs the permission ADMINISTER_TAGS.
    key_file: our private RSA key in PEM, unencrypted.
    deadline_seconds: for a whole attempt; it must stay below the 30 seconds of a lease.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_DIGIPOST_")

    url: str = "https://api.digipost.no"
    broker_id: str
    key_file: Path
    deadline_seconds: float = Field(default=20.0, gt=0, le=25)

    @field_validator("url")
    @classmethod
    def _protected(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            return url
        if parts.scheme == "http" and _is_this_machine(parts.hostname or ""):
            return url
        raise ValueError("must begin with https://, unless it is on this machine")


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
