"""The mailbox operator Digipost, by its published API.

The tags need the permission ADMINISTER_TAGS, which Digipost gives the register's owner
only: never tried against the real service.
"""

from adapters.digipost.adapter import DigipostAdapter
from adapters.digipost.settings import DigipostSettings

__all__ = ["DigipostAdapter", "DigipostSettings"]
