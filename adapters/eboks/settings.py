"""Where e-Boks is and how to call it."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.eboks.adapter import EBoksAdapter


class EBoksSettings(BaseSettings):
    """Settings from environment variables KRR_EBOKS_….

    KRR_EBOKS_URL: base address, without a slash at the end.
    KRR_EBOKS_TOKEN_FILE: file that holds the bearer token; read on every attempt, so that a
        new token needs no restart.
    KRR_EBOKS_DEADLINE_SECONDS: how long one attempt may take in all.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_EBOKS_")

    url: str = Field(default=..., pattern="^https?://.*[^/]$")
    token_file: Path = Field(default=...)
    deadline_seconds: float = Field(default=20.0, gt=0)


def adapter_from_settings() -> EBoksAdapter:
    """The adapter as the environment says. Raises pydantic.ValidationError."""
    settings = EBoksSettings()
    return EBoksAdapter(
        settings.url, token_file=settings.token_file, deadline_seconds=settings.deadline_seconds
    )
