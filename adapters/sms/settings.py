"""Where the SMS gateway is, how to call it, and where it finds us."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.settings import DeadlineSeconds, ProtectedUrl


class SmsSettings(BaseSettings):
    """Settings from environment variables KRR_SMS_….

    KRR_SMS_URL: base address of MyLINK.
    KRR_SMS_TOKEN_URL: address that gives access tokens.
    KRR_SMS_CLIENT_ID, KRR_SMS_CLIENT_SECRET_FILE: who we are there; the file is read whenever
        a token is fetched, so that a new secret needs no restart.
    KRR_SMS_SENDER: who the message says it is from, at most 11 letters and digits.
    KRR_SMS_GATEWAY_IS_SANDBOX: whether the gateway reaches no real people; only then do
        messages to synthetic persons leave.
    KRR_SMS_RECEIPTS_LISTEN: host:port where we hear the gateway's receipts.
    KRR_SMS_RECEIPTS_URL: base address by which the gateway reaches that.
    KRR_SMS_DEADLINE_SECONDS: how long one attempt may take in all, the token included.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_SMS_")

    url: ProtectedUrl = "https://api.linkmobility.com"
    token_url: ProtectedUrl = "https://sso.linkmobility.com/auth/realms/CPaaS/protocol/openid-connect/token"
    client_id: str
    client_secret_file: Path
    sender: str = Field(default="Digdir", pattern="^[A-Za-z0-9 ]{1,11}$")
    gateway_is_sandbox: bool = False
    receipts_listen: str = Field(default="127.0.0.1:50064", pattern=":[0-9]+$")
    receipts_url: ProtectedUrl
    deadline_seconds: DeadlineSeconds = 20.0
