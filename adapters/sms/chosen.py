"""The SMS gateway that the settings choose."""

from contextlib import ExitStack

import grpc

from adapters.receipts import receipts_listener
from adapters.sms.fallback import BoundedGateway, Fallback
from adapters.sms.link import LinkGateway
from adapters.sms.settings import LinkSettings, SmppSettings, SmsSettings
from adapters.sms.smpp import smpp_gateway


def chosen_gateway(
    settings: SmsSettings, register: grpc.Channel, probe_seconds: float, stack: ExitStack
) -> BoundedGateway:
    """One gateway, or both in order; what hears their receipts ends with the stack.

    probe_seconds: how long one that refuses us is left in peace.

    Raises ValidationError where settings of a chosen gateway are missing, and OSError where the
    address for receipts is taken.
    """
    gateways = {name: _opened(name, settings, register, stack) for name in settings.gateway_names}
    return Fallback(gateways, probe_seconds) if len(gateways) > 1 else next(iter(gateways.values()))


def _opened(name: str, settings: SmsSettings, register: grpc.Channel, stack: ExitStack) -> BoundedGateway:
    if name == "smpp":
        return stack.enter_context(smpp_gateway(settings, SmppSettings(), register))
    link = LinkSettings()
    stack.enter_context(receipts_listener(link.receipts_listen, register))
    return LinkGateway(link)
