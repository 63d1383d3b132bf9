"""Where Digipost is, and who we are there."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.settings import DeadlineSeconds, ProtectedUrl


class DigipostSettings(BaseSettings):
    """Settings from environment variables KRR_DIGIPOST_….

    KRR_DIGIPOST_URL: address of the API.
    KRR_DIGIPOST_BROKER_ID: who we are to Digipost, X-Digipost-UserId; needs the permission
        ADMINISTER_TAGS.
    KRR_DIGIPOST_KEY_FILE: our private RSA key in PEM, unencrypted.
    KRR_DIGIPOST_DEADLINE_SECONDS: how long one attempt may take in all.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_DIGIPOST_")

    url: ProtectedUrl = "https://api.digipost.no"
    broker_id: str
    key_file: Path
    deadline_seconds: DeadlineSeconds = 20.0
