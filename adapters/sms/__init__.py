"""Text messages, by LINK Mobility's MyLINK and by SMPP 3.4."""

from adapters.sms.chosen import chosen_gateway
from adapters.sms.link import LinkGateway
from adapters.sms.settings import LinkSettings, SmppSettings, SmsSettings
from adapters.sms.smpp import smpp_gateway

__all__ = ["LinkGateway", "LinkSettings", "SmppSettings", "SmsSettings", "chosen_gateway", "smpp_gateway"]
