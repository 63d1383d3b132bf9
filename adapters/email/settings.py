"""Where the mail server is, who we are there, and where it brings back what it could not deliver."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.settings import DeadlineSeconds, is_this_machine


class EmailSettings(BaseSettings):
    """Settings of the e-mail channel, from environment variables KRR_EMAIL_….

    KRR_EMAIL_HOST, KRR_EMAIL_PORT: the mail server that takes our mail.
    KRR_EMAIL_TLS: "starttls", or "none" for a server on this machine.
    KRR_EMAIL_CA_FILE: authorities that its certificate is held against; the system's where unset.
    KRR_EMAIL_USER, KRR_EMAIL_PASSWORD_FILE: who we are there, where it asks; the file is read anew for
        each message.
    KRR_EMAIL_SENDER_NAME, KRR_EMAIL_SENDER: who the mail says it is from.
    KRR_EMAIL_BOUNCE_DOMAIN: the domain whose mail servers bring bounces to KRR_EMAIL_BOUNCES_LISTEN:
        each message has a return address of its own there.
    KRR_EMAIL_BOUNCES_LISTEN: host:port where we take bounces, by SMTP.
    KRR_EMAIL_GATEWAY_IS_SANDBOX: whether the server reaches no real people; only then do messages to
        synthetic persons leave.
    KRR_EMAIL_DEADLINE_SECONDS: how long one attempt may take in all.
    """

    model_config = SettingsConfigDict(env_prefix="KRR_EMAIL_")

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "none"] = "starttls"
    ca_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    sender_name: str = Field(
        default="Kontakt- og reservasjonsregisteret", pattern="^[^\x00-\x1f\x7f]{0,100}$"
    )
    sender: str = Field(default="ikke-svar@norge.no", pattern="^[!-~]+@[!-~]+$")
    bounce_domain: str = Field(default="bounce.norge.no", pattern="^[A-Za-z0-9.-]+$")
    bounces_listen: str = Field(default="127.0.0.1:50065", pattern=":[0-9]+$")
    gateway_is_sandbox: bool = False
    deadline_seconds: DeadlineSeconds = 20.0

    @model_validator(mode="after")
    def _protected(self) -> Self:
        if self.tls == "none" and not is_this_machine(self.host):
            raise ValueError("tls: addresses and codes go unprotected to a server on this machine only")
        if bool(self.user) != bool(self.password_file):
            raise ValueError("user and password_file: both or neither")
        return self
