"""E-mail, by SMTP."""

from adapters.email.bounces import bounces_listener
from adapters.email.settings import EmailSettings
from adapters.email.smtp import SmtpGateway

__all__ = ["EmailSettings", "SmtpGateway", "bounces_listener"]
