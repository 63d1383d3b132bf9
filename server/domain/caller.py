"""Who is calling."""

from dataclasses import dataclass
from enum import StrEnum


class CallerKind(StrEnum):
    """The kinds of caller that the register knows."""

    PUBLIC_BODY = "public-body"
    OPERATOR = "operator"
    CITIZEN = "citizen"
    LOG_IN_SERVICE = "log-in-service"
    ADAPTER = "adapter"
    ADMINISTRATOR = "administrator"
    # The register's own jobs; no credential says so.
    REGISTER = "register"
    # The register, after it compared itself with an operator; no credential says so either.
    RECONCILIATION = "reconciliation"
    # The register, in a clean-up of shared contact info; likewise.
    CLEAN_UP = "clean-up"


@dataclass(frozen=True)
class Caller:
    """Who is calling, as the credential says.

    subject: an organisation number (public body, operator, log-in service), a person
        identifier (citizen), or a name (adapter, administrator).
    """

    kind: CallerKind
    subject: str
