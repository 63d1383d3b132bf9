"""Where SMS gateways are, how to call them, and where one finds us."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.settings import DeadlineSeconds, ProtectedUrl


class SmsSettings(BaseSettings):
    """Settings of all SMS gateways, from environment variables KRR_SMS_….

    KRR_SMS_GATEWAYS: "link", "smpp", or both with a comma: the second has what the first surely
        did not take.
    KRR_SMS_SENDER: who the message says it is from, at most 11 letters and digits.
    KRR_SMS_GATEWAY_IS_SANDBOX: whether no gateway here reaches real people; only then do
        messages to synthetic persons leave.
    KRR_SMS_DEADLINE_SECONDS: how long one attempt may take in all; two gateways have half of it each.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_SMS_")

    gateways: Literal["link", "smpp", "link,smpp", "smpp,link"] = "link"
    sender: str = Field(default="Digdir", pattern="^[A-Za-z0-9 ]{1,11}$")
    gateway_is_sandbox: bool = False
    deadline_seconds: DeadlineSeconds = 20.0

    @property
    def gateway_names(self) -> list[str]:
        """The gateways in the order in which they are asked."""
        return self.gateways.split(",")

    @property
    def deadline_of_each(self) -> float:
        """Seconds that one gateway has for an attempt."""
        return self.deadline_seconds / len(self.gateway_names)


class LinkSettings(SmsSettings):
    """Settings of MyLINK, from environment variables KRR_SMS_… too.

    KRR_SMS_URL: base address of MyLINK.
    KRR_SMS_TOKEN_URL: address that gives access tokens.
    KRR_SMS_CLIENT_ID, KRR_SMS_CLIENT_SECRET_FILE: who we are there; the file is read whenever
        a token is fetched, so that a new secret needs no restart.
    KRR_SMS_RECEIPTS_LISTEN: host:port where we hear the gateway's receipts.
    KRR_SMS_RECEIPTS_URL: base address by which the gateway reaches that.
    """

    url: ProtectedUrl = "https://api.linkmobility.com"
    token_url: ProtectedUrl = "https://sso.linkmobility.com/auth/realms/CPaaS/protocol/openid-connect/token"
    client_id: str
    client_secret_file: Path
    receipts_listen: str = Field(default="127.0.0.1:50064", pattern=":[0-9]+$")
    receipts_url: ProtectedUrl


class SmppSettings(BaseSettings):
    """Settings of a message centre that speaks SMPP 3.4, from environment variables KRR_SMPP_….

    KRR_SMPP_HOST, KRR_SMPP_PORT: where it is.
    KRR_SMPP_TLS: whether it speaks TLS; false only where a VPN protects the way.
    KRR_SMPP_CA_FILE: authorities that its certificate is held against; the system's where unset.
    KRR_SMPP_SYSTEM_ID, KRR_SMPP_PASSWORD_FILE: who we are there; the file is read at each bind, and
        holds at most 8 characters, as SMPP has it.
    KRR_SMPP_SYSTEM_TYPE: where the centre asks for one.
    KRR_SMPP_ENQUIRE_SECONDS: after so long a silence the centre is asked whether it is there; after
        as long again the connection is given up.
    KRR_SMPP_REFUSED_SECONDS: how long to wait after a bind that was refused.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_SMPP_")

    host: str = Field(min_length=1)
    port: int = Field(default=2775, ge=1, le=65535)
    tls: bool = True
    ca_file: Path | None = None
    system_id: str = Field(pattern="^[!-~]{1,15}$")
    password_file: Path
    system_type: str = Field(default="", pattern="^[!-~]{0,12}$")
    enquire_seconds: float = Field(default=30.0, ge=1, le=600)
    refused_seconds: float = Field(default=60.0, ge=1, le=3600)
