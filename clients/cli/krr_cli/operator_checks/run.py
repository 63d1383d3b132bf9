"""Running the checks: who is fit for them, one after the other, and nothing left behind."""

from collections.abc import Callable, Iterator, Sequence

import grpc
from krr.v1 import mailbox_operator_service_pb2 as pb
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub
from krr_client import RegisterError

from krr_cli.operator_checks.check import Check, Outcome, State
from krr_cli.operator_checks.events import ADDRESS_PREFIX, REMOVAL
from krr_cli.operator_checks.operator_side import OperatorSide, Person
from krr_cli.operator_checks.surprise import Surprise
from krr_cli.operator_checks.ways import by_call

_FIT = "MAY_CHOOSE"


def fit_persons(
    side: OperatorSide, persons: Sequence[Person], unfit: Callable[[Person, str], None]
) -> list[Person]:
    """Those of the persons that checks can use.

    Mailboxes that an earlier run of this program left behind are removed first.

    unfit: hears of each other person, and why.

    Raises RegisterError, and Surprise where the feed is not as the contract has it.
    """
    side.holdings.read_on()
    fit = []
    for person in persons:
        held = side.holdings.of(person.identifier)
        if held.address.startswith(ADDRESS_PREFIX):
            by_call(side.stub, side.event(person, delete=REMOVAL))
        elif held.address:
            unfit(person, "a mailbox of this operator stands there, which no check made")
            continue
        standing = side.may_choose(person)
        if standing == _FIT:
            fit.append(person)
        else:
            unfit(person, standing)
    return fit


def outcomes(side: OperatorSide, checks: Sequence[Check], persons: Sequence[Person]) -> Iterator[Outcome]:
    """Run the checks, each on the next persons.

    Once the register is away the rest is skipped.
    """
    left, away = list(persons), ""
    for check in checks:
        if away:
            yield Outcome(check, State.SKIPPED, came=away, away=True)
            continue
        if len(left) < check.persons:
            few = f"takes {check.persons} persons, {len(left)} are left"
            yield Outcome(check, State.SKIPPED, came=few)
            continue
        own, left = left[: check.persons], left[check.persons :]
        outcome = _outcome(side, check, own)
        yield outcome
        if outcome.state is State.FAILED:
            away = _away(side, own[0])


def _outcome(side: OperatorSide, check: Check, persons: list[Person]) -> Outcome:
    numbers = tuple(person.number for person in persons)
    try:
        check.try_it(side, persons)
    except Surprise as surprise:
        return Outcome(check, State.FAILED, numbers, surprise.expected, surprise.came)
    except RegisterError as error:
        return Outcome(check, State.FAILED, numbers, check.promise, _refusal(error))
    return Outcome(check, State.PASSED, numbers)


def _away(side: OperatorSide, person: Person) -> str:
    """Why nothing more can be tried; "" where the register answers."""
    try:
        side.may_choose(person)
    except RegisterError as error:
        if _means_away(error):
            return f"the register is away: {_refusal(error)}"
    return ""


def _means_away(error: RegisterError) -> bool:
    return error.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def _refusal(error: RegisterError) -> str:
    # Its text would be the register's own, which is what is on trial.
    return error.reason or error.status.name


def clean_up(side: OperatorSide, persons: Sequence[Person]) -> list[Person]:
    """Remove what the checks made; returns whose mailbox was not seen to be gone."""
    left = []
    for place, person in enumerate(persons):
        try:
            if not _is_removed(side, person):
                left.append(person)
        except RegisterError as error:
            if _means_away(error):
                return [*left, *persons[place:]]
            left.append(person)
    try:
        side.holdings.read_on()
    except (RegisterError, Surprise):
        return list(persons)
    return [person for person in persons if person in left or side.holdings.of(person.identifier).address]


def _is_removed(side: OperatorSide, person: Person) -> bool:
    stubs: list[MailboxOperatorServiceStub] = [side.stub, *([side.other] if side.other else [])]
    try:
        answers = [by_call(stub, side.event(person, delete=REMOVAL)) for stub in stubs]
    except Surprise:
        return False
    return all(answer.result in (pb.MAILBOX_RESULT_OK, pb.MAILBOX_RESULT_NO_MAILBOX) for answer in answers)
