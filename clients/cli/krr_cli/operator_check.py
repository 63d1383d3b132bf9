"""`krr operator check`: a mailbox operator's engineer tries a register's test environment."""

import json
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub

from krr_cli.identifiers_to_look_up import NotText, identifiers_in
from krr_cli.operator import Operator
from krr_cli.operator_checks.catalogue import checks
from krr_cli.operator_checks.check import Check, Outcome, State
from krr_cli.operator_checks.operator_side import OperatorSide, Person
from krr_cli.operator_checks.run import clean_up, fit_persons, outcomes
from krr_cli.operator_checks.surprise import Surprise
from krr_cli.progress_bar import progress_bar
from krr_cli.register import DEFAULT_REGISTER, REFUSED, UNREACHABLE, AsJson, Register, connected
from krr_cli.show import operator_number, print_table

_PERSONS_OF_ALL = sum(check.persons for check in checks(other_operator=True))

# A paragraph is one line: what shows it folds it to the terminal.
HELP = "\n\n".join(
    (
        "Check that a register's test environment keeps what the contract promises a mailbox operator.",
        "Each check pushes events for test persons of its own, by calls and by streams: repeats them, "
        "reorders them, cuts the way, and holds the answers and the operator's feed against the contract. "
        f"All of them together take {_PERSONS_OF_ALL} persons; --list says what each tries and takes.",
        "PERSONS is a file with an identifier per line, as for `krr look-up --file`. They must be "
        "synthetic (month + 80), ACTIVE with an e-mail or mobile, not reserved and without a mailbox of "
        "the operator or a chosen one; others are named by their place in the file and left out. Nobody "
        "else may change these persons, or push with this credential, meanwhile.",
        "In the end the mailboxes that the checks made are removed. It may be run again and again: event "
        "ids are fresh, and sequences are microseconds since 1970, so the clock must not be set back. What "
        "a run that was killed left behind, the next one with the same persons removes.",
        "Nothing shown holds an identity number or an address: persons go by their place in the file. Exit "
        "code 0 says that every check passed and nothing was left behind, 1 that one did not, 3 that the "
        "register is away.",
    )
)


def check(
    operator: Operator,
    persons: Annotated[
        Path | None,
        typer.Argument(
            metavar="PERSONS", exists=True, dir_okay=False, readable=True, help="The test persons."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only this check, or all like 'stream.*'; may be given again.",
            show_default="all",
        ),
    ] = None,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks and try none.")] = False,
    other_operator: Annotated[
        str,
        typer.Option(
            metavar="OPERATOR", help="Another operator's credential, which feed.of-another-operator takes."
        ),
    ] = "",
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    wanted = _wanted(only or [], other_operator)
    if list_checks:
        _list(wanted, as_json)
        return
    if persons is None:
        raise typer.BadParameter("name a file of test PERSONS")
    everybody = _persons_in(persons)
    with (
        connected(register, _credential(operator)) as channel,
        connected(register, _credential(other_operator))
        if other_operator
        else nullcontext() as other_channel,
    ):
        other = MailboxOperatorServiceStub(other_channel) if other_channel else None
        side = OperatorSide(channel, {person.identifier: person.number for person in everybody}, other)
        try:
            fit = fit_persons(side, everybody, _say_unfit)
        except Surprise as surprise:
            typer.echo(f"expected {surprise.expected}; came: {surprise.came}", err=True)
            raise typer.Exit(REFUSED) from None
        found, left = _run(side, wanted, fit, as_json)
    _show(found, left, as_json)
    if any(outcome.away for outcome in found):
        raise typer.Exit(UNREACHABLE)
    if left or any(outcome.state is not State.PASSED for outcome in found):
        raise typer.Exit(REFUSED)


def _run(
    side: OperatorSide, wanted: list[Check], fit: list[Person], as_json: bool
) -> tuple[list[Outcome], list[Person]]:
    """How each check ended, and whose mailbox was left behind."""
    used = fit[: sum(each.persons for each in wanted)]
    found = list[Outcome]()
    try:
        with progress_bar(len(wanted), to_standard_output=as_json) as show:
            for outcome in outcomes(side, wanted, used):
                found.append(outcome)
                if as_json:
                    _print_json(outcome)
                show(len(found))
    finally:
        left = clean_up(side, used)
        if left:
            numbers = ", ".join(str(person.number) for person in left)
            typer.echo(f"mailboxes that may be left behind, of persons: {numbers}", err=True)
    return found, left


def _wanted(only: list[str], other_operator: str) -> list[Check]:
    every = checks(other_operator=bool(other_operator))
    for pattern in only:
        if not any(fnmatchcase(each.name, pattern) for each in every):
            raise typer.BadParameter(f"no check is called {pattern}; --list names them")
    return [each for each in every if not only or any(fnmatchcase(each.name, like) for like in only)]


def _persons_in(file: Path) -> list[Person]:
    """The test persons. Raises typer.BadParameter where one may be somebody who lives, or comes twice."""
    with file.open("rb") as lines:
        try:
            identifiers = list(identifiers_in(lines))
        except NotText as error:
            raise typer.BadParameter(f"{file}: {error}") from None
    if not identifiers:
        raise typer.BadParameter(f"{file}: nobody is in it")
    for number, identifier in enumerate(identifiers, start=1):
        if not _is_synthetic(identifier):
            raise typer.BadParameter(f"{file}: person {number} is not synthetic (11 digits, month + 80)")
        if identifier in identifiers[: number - 1]:
            raise typer.BadParameter(f"{file}: person {number} comes twice")
    return [Person(number, identifier) for number, identifier in enumerate(identifiers, start=1)]


def _is_synthetic(identifier: str) -> bool:
    # Skatteetaten's test persons have a month of 81 to 92; nobody who lives has.
    return (
        len(identifier) == 11
        and identifier.isascii()
        and identifier.isdigit()
        and 80 < int(identifier[2:4]) <= 92
    )


def _credential(operator: str) -> str:
    return f"Development operator/{operator_number(operator)}"


def _say_unfit(person: Person, why: str) -> None:
    typer.echo(f"{person} is left out: {why}", err=True)


def _list(listed: list[Check], as_json: bool) -> None:
    if as_json:
        for each in listed:
            fields = {"check": each.name, "persons": each.persons, "promise": each.promise}
            typer.echo(json.dumps(fields, ensure_ascii=False))
        return
    print_table(
        ["check", "persons", "promise"], [[each.name, str(each.persons), each.promise] for each in listed]
    )


def _show(found: list[Outcome], left: list[Person], as_json: bool) -> None:
    counts = {state.value: sum(outcome.state is state for outcome in found) for state in State}
    if as_json:
        typer.echo(json.dumps(counts | {"left_behind": [person.number for person in left]}))
        return
    print_table(["check", "result", "persons", "expected", "came"], map(_row, found))
    typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))


def _print_json(outcome: Outcome) -> None:
    fields = {
        "check": outcome.check.name,
        "state": outcome.state,
        "persons": outcome.persons,
        "expected": outcome.expected,
        "came": outcome.came,
    }
    typer.echo(json.dumps(fields, ensure_ascii=False))


def _row(outcome: Outcome) -> list[str]:
    persons = ", ".join(map(str, outcome.persons))
    return [outcome.check.name, outcome.state, persons, outcome.expected, outcome.came]
