"""Text messages, by LINK Mobility's MyLINK."""

from adapters.sms.link import LinkGateway
from adapters.sms.settings import SmsSettings, gateway_from_settings

__all__ = ["LinkGateway", "SmsSettings", "gateway_from_settings"]
