"""Text messages, by LINK Mobility's MyLINK."""

from adapters.sms.link import LinkGateway
from adapters.sms.settings import SmsSettings

__all__ = ["LinkGateway", "SmsSettings"]
