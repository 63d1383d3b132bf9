"""For how long a gateway may try to bring a message."""

from datetime import UTC, datetime, timedelta

from krr.v1 import delivery_service_pb2 as pb

# Where the register does not tell.
_UNTOLD = timedelta(hours=24)


def time_left(message: pb.Message) -> timedelta:
    """How long the message is still news; not above zero where it no longer is."""
    if not message.HasField("expires_time"):
        return _UNTOLD
    return message.expires_time.ToDatetime(UTC) - datetime.now(UTC)
