"""Where e-Boks is and how to call it."""

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from adapters.mutual_tls import MutualTlsSettings
from adapters.settings import DeadlineSeconds, ProtectedUrl


class EBoksSettings(MutualTlsSettings):
    """Settings from environment variables KRR_EBOKS_….

    KRR_EBOKS_URL: base address.
    KRR_EBOKS_TOKEN_FILE: file that holds the bearer token; read for every request, so that a
        new token needs no restart.
    KRR_EBOKS_DEADLINE_SECONDS: how long one attempt may take in all.
    KRR_EBOKS_LISTS_ACCOUNTS: whether the operator serves the list of its accounts.
    KRR_EBOKS_CLIENT_CERTIFICATE_FILE, KRR_EBOKS_CLIENT_KEY_FILE, KRR_EBOKS_AUTHORITIES_FILE:
        see MutualTlsSettings.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_EBOKS_")

    url: ProtectedUrl
    token_file: Path
    deadline_seconds: DeadlineSeconds = 20.0
    lists_accounts: bool = False
