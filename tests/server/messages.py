"""Messages to people as their adapters lease them."""

from google.protobuf.duration_pb2 import Duration
from krr.v1 import delivery_service_pb2 as pb

from tests.conftest import Register


def lease(register: Register, channel: str) -> list[pb.Message]:
    """What is due on the channel, "sms" or "email"; not due again for a minute."""
    request = pb.LeaseMessagesRequest(
        channel=pb.Channel.Value(f"CHANNEL_{channel.upper()}"),
        max_messages=100,
        lease_duration=Duration(seconds=60),
    )
    return list(register.as_adapter(channel).LeaseMessages(request).messages)


def finish_sent(register: Register, channel: str, message: pb.Message) -> None:
    """Tell that a gateway took the message."""
    sent = pb.MessageSent(gateway="TEST", gateway_message_id=message.message_id)
    register.as_adapter(channel).FinishMessage(
        pb.FinishMessageRequest(message_id=message.message_id, lease_token=message.lease_token, sent=sent)
    )
