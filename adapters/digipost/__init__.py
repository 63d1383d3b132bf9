"""The mailbox operator Digipost, by its published API.

The tags need the permission ADMINISTER_TAGS, which Digipost gives the register's owner
only: never tried against the real service.
"""

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from adapters.digipost.adapter import DigipostAdapter
from adapters.digipost.client import DigipostClient
from adapters.digipost.settings import DigipostSettings

__all__ = ["DigipostAdapter", "adapter_from_settings"]


def adapter_from_settings() -> DigipostAdapter:
    """The adapter that the environment describes; see DigipostSettings.

    Raises ValueError where a setting is missing or the key is not RSA, OSError where it
    cannot be read.
    """
    settings = DigipostSettings()
    key = load_pem_private_key(settings.key_file.read_bytes(), password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("KRR_DIGIPOST_KEY_FILE is not an RSA key")
    client = DigipostClient(settings.url, settings.broker_id, key)
    return DigipostAdapter(client, settings.deadline_seconds)
