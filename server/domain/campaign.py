"""The clean-up of shared contact info: what it acts on, and how long people have.

As in 2016: organisations whose address stood on five or more persons were told to stop, each person
got a letter and some weeks' time; who still shared then was deleted, the mailbox choice included.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum

from server.domain.errors import InvalidValue, Reason
from server.domain.rules import date_in_norway

# Difi's notice of 2016: "fem eller flere". E-mail and mobile are counted apart; either is enough.
SHARED_BY_AT_LEAST = 5

# A letter takes some days each way, and people are away.
SHORTEST_TIME = timedelta(days=14)

# A letter that is written later than this before the deadline would leave no time to answer.
LAST_LETTERS = timedelta(days=7)

# Of their users' own mailboxes: nobody there answers for what others entered.
_PUBLIC_MAIL_DOMAINS = frozenset(
    {
        "altibox.no",
        "aol.com",
        "broadpark.no",
        "c2i.net",
        "chello.no",
        "epost.no",
        "frisurf.no",
        "getmail.no",
        "gmail.com",
        "gmx.com",
        "gmx.net",
        "googlemail.com",
        "hotmail.com",
        "hotmail.no",
        "icloud.com",
        "live.com",
        "live.no",
        "lyse.net",
        "mac.com",
        "mail.com",
        "me.com",
        "msn.com",
        "online.no",
        "outlook.com",
        "outlook.no",
        "proton.me",
        "protonmail.com",
        "start.no",
        "tele2.no",
        "telenor.no",
        "telia.no",
        "yahoo.com",
        "yahoo.no",
    }
)


class CampaignState(StrEnum):
    """Where a campaign stands, as the contract names it."""

    PLANNED = "PLANNED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED_AT_CAP = "STOPPED_AT_CAP"
    FINISHED = "FINISHED"
    ENDED = "ENDED"


class Standing(StrEnum):
    """Where a person stands in one case.

    OPEN: has the value.
    DOOMED: had it after the deadline, and others too; is to be deleted.
    SETTLED: had it after the deadline, and nobody else did.
    """

    OPEN = "OPEN"
    REPAIRED = "REPAIRED"
    EXEMPT = "EXEMPT"
    SETTLED = "SETTLED"
    DOOMED = "DOOMED"
    DELETED = "DELETED"


def is_over(deadline: date, now: datetime) -> bool:
    """Whether the deadline's day has ended in Norway."""
    return date_in_norway(now) > deadline


def may_still_write(deadline: date, now: datetime) -> bool:
    """Whether a letter written now leaves time to answer; who gets none is not deleted."""
    return date_in_norway(now) + LAST_LETTERS <= deadline


def check_deadline(deadline: date, now: datetime) -> None:
    """Raises InvalidValue: INVALID_FIELD where it leaves people too little time."""
    if deadline < date_in_norway(now) + SHORTEST_TIME:
        raise InvalidValue(
            Reason.INVALID_FIELD, "deadline_date", f"at least {SHORTEST_TIME.days} days ahead, YYYY-MM-DD"
        )


def check_domain(domain: str) -> None:
    """Raises InvalidValue: INVALID_FIELD for a public mail domain."""
    if domain in _PUBLIC_MAIL_DOMAINS:
        raise InvalidValue(Reason.INVALID_FIELD, description="not a public mail domain")


def notice_address(shared: str, organisations: Mapping[str, str]) -> str:
    """Where an organisation is told of a shared e-mail address.

    organisations: by domain, where each is told.
    """
    return organisations.get(shared.rpartition("@")[2], shared)
