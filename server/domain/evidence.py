"""By what a person agreed to a mailbox, as its operator saw it."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from server.domain.errors import InvalidValue, Reason

# One of these each: letters of any alphabet, as in "Buypass ID på smartkort".
_EID = re.compile(r"(?:[^\W_]|[ -]){1,32}")
_SHA256_BYTES = 32


class AssuranceLevel(StrEnum):
    """How sure an electronic ID is (eIDAS article 8)."""

    LOW = "LOW"
    SUBSTANTIAL = "SUBSTANTIAL"
    HIGH = "HIGH"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What an operator keeps, and hands over, of a person's consent.

    eid: name of the electronic ID.
    agreed: when the person agreed.
    agreed_text_sha256: SHA-256 of the text that the person agreed to.
    occurred: when the operator did what it reports; None where it does not say.
    """

    eid: str
    level: AssuranceLevel
    agreed: datetime
    agreed_text_sha256: bytes
    occurred: datetime | None = None


def parse_eid(text: str) -> str:
    """Read the name of an electronic ID. Raises InvalidValue: INVALID_FIELD."""
    if not _EID.fullmatch(text):
        raise InvalidValue(Reason.INVALID_FIELD, description="1 to 32 letters, digits, spaces and hyphens")
    return text


def parse_sha256(digest: bytes) -> bytes:
    """Read a SHA-256. Raises InvalidValue: INVALID_FIELD."""
    if len(digest) != _SHA256_BYTES:
        raise InvalidValue(Reason.INVALID_FIELD, description="32 bytes")
    return digest
