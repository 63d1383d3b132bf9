"""One-time codes: how many are sent, how many tries they bear, and what a try proves."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from server.domain.errors import Reason
from server.domain.message import VALID_FOR, MessageKind

# Long enough for a slow gateway and a hunt for the phone, too short to be found on it later.
CODE_LIFETIME = VALID_FOR[MessageKind.VERIFICATION_CODE]

# Room for slips of the finger; who guesses has five chances in a million.
MOST_TRIES = 5

# An SMS takes some seconds. Who asks again before it can have come only gets two, and takes the first.
RESEND_AFTER = timedelta(seconds=60)

# Over what time codes and tries are counted.
COUNTED_FOR = timedelta(hours=24)

# To one contact point of a person, as each SMS costs; and to one address or number, whoever asks:
# it may be a stranger's, who shall not be rung all night.
MOST_CODES = 5

# The last try of a code may come at the end of its life.
TRIES_COUNTED_FOR = COUNTED_FOR + CODE_LIFETIME

# Of one person, over all codes and both contact points: fewer than the codes alone would bear, so that
# who asks for one code after the other, to guess at each, comes to an end too.
MOST_WRONG_TRIES = 20


@dataclass(frozen=True)
class SentCode:
    """A code that was sent of late.

    to_point: to the contact point in question: the same kind, of the same person.
    to_value: to the address or number in question, of whomever.
    of_person: to the person in question, by either kind.
    """

    created: datetime
    wrong_tries: int
    to_point: bool
    to_value: bool
    of_person: bool


@dataclass(frozen=True)
class WaitingCode:
    """The code that was last sent to a contact point.

    sent_to: the address or number; None where that was erased since.
    ended: whether it proved the contact point, or another one took its place.
    """

    sent_to: str | None
    expires: datetime
    wrong_tries: int
    ended: bool


def wait_before_code(now: datetime, sent: Iterable[SentCode]) -> timedelta:
    """How long it takes until another code may be sent; not above zero where one may be now."""
    newest_first = sorted(sent, key=lambda code: code.created, reverse=True)
    to_point = [code.created for code in newest_first if code.to_point]
    to_value = [code.created for code in newest_first if code.to_value]
    may_be_from = [now, *(created + RESEND_AFTER for created in to_point[:1])]
    for times in (to_point, to_value):
        if len(times) >= MOST_CODES:
            may_be_from.append(times[MOST_CODES - 1] + COUNTED_FOR)
    # A code that could not be tried is not sent either.
    of_person = [code for code in newest_first if code.of_person]
    for code, wrong_tries in zip(of_person, accumulate(each.wrong_tries for each in of_person), strict=True):
        if wrong_tries >= MOST_WRONG_TRIES:
            may_be_from.append(code.created + TRIES_COUNTED_FOR)
            break
    return max(may_be_from) - now


def judge_try(
    now: datetime, waiting: WaitingCode | None, value: str, wrong_tries: int, *, is_right: bool
) -> Reason | None:
    """Why the try proves nothing; None where it proves that the person holds the address or number.

    value: the contact point's.
    wrong_tries: of the person, with all codes that could be tried in the last 24 hours.
    is_right: whether the code is the one that was sent; looked at last, so that who guesses learns
        nothing of a code that is good no longer.
    """
    if (
        waiting is None
        or waiting.ended
        or waiting.sent_to != value
        or waiting.expires <= now
        or waiting.wrong_tries >= MOST_TRIES
        or wrong_tries >= MOST_WRONG_TRIES
    ):
        return Reason.CODE_EXPIRED
    return None if is_right else Reason.CODE_WRONG
