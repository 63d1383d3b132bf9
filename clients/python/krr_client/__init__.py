"""Client for the contact and reservation register."""

from krr_client.channel import connect
from krr_client.errors import RegisterError

__all__ = ["RegisterError", "connect"]
