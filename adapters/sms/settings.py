"""Where the SMS gateway is, how to call it, and where it finds us."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.sms.link import LinkGateway
from adapters.sms.token import ClientCredentials


class SmsSettings(BaseSettings):
    """Settings from environment variables KRR_SMS_….

    KRR_SMS_URL: base address of MyLINK, without a slash at the end.
    KRR_SMS_TOKEN_URL: address that gives access tokens.
    KRR_SMS_CLIENT_ID, KRR_SMS_CLIENT_SECRET_FILE: who we are there; the file is read whenever
        a token is fetched, so that a new secret needs no restart.
    KRR_SMS_SENDER: who the message says it is from, at most 11 letters and digits.
    KRR_SMS_GATEWAY_IS_SANDBOX: whether the gateway reaches no real people; only then do
        messages to synthetic persons leave.
    KRR_SMS_RECEIPTS_LISTEN: host:port where we hear the gateway's receipts.
    KRR_SMS_RECEIPTS_URL: base address by which the gateway reaches that, without a slash at
        the end.
    KRR_SMS_DEADLINE_SECONDS: how long one attempt may take in all.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_SMS_")

    url: str = Field(default="https://api.linkmobility.com", pattern="^https?://.*[^/]$")
    token_url: str = Field(
        default="https://sso.linkmobility.com/auth/realms/CPaaS/protocol/openid-connect/token",
        pattern="^https?://",
    )
    client_id: str = Field(default=...)
    client_secret_file: Path = Field(default=...)
    sender: str = Field(default="Digdir", pattern="^[A-Za-z0-9 ]{1,11}$")
    gateway_is_sandbox: bool = False
    receipts_listen: str = Field(default="127.0.0.1:50064", pattern=":[0-9]+$")
    receipts_url: str = Field(default=..., pattern="^https?://.*[^/]$")
    deadline_seconds: float = Field(default=20.0, gt=0)


def gateway_from_settings(settings: SmsSettings) -> LinkGateway:
    """The gateway as the settings say."""
    return LinkGateway(
        settings.url,
        ClientCredentials(
            token_url=settings.token_url,
            client_id=settings.client_id,
            client_secret_file=settings.client_secret_file,
        ),
        sender=settings.sender,
        receipts_url=settings.receipts_url,
        deadline_seconds=settings.deadline_seconds,
    )
