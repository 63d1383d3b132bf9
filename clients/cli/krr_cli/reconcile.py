"""`krr reconcile` and `krr sweeps`: compare the register with an operator's side."""

import time as clock
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated

import typer
from krr.v1 import sweep_pb2 as pb
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr_client import RegisterError

from krr_cli.pages import collect_pages
from krr_cli.progress_bar import progress_bar
from krr_cli.register import (
    ADMINISTRATOR,
    AWAY,
    DEFAULT_REGISTER,
    REFUSED,
    STOPPED_AT_CAP,
    AsJson,
    Register,
    RequestId,
    connected,
    request_id_or_new,
)
from krr_cli.show import name, print_json, print_table, time

app = typer.Typer()
sweeps = typer.Typer(no_args_is_help=True, help="See and end comparisons of the register with operators.")

_POLL_SECONDS = 0.5
# A register that is restarted or whose database is restarted is back by then.
_AWAY_SECONDS = 60.0
# An adapter whose operator is away, or that reads slowly by its settings, is as slow as this.
_STILL_SECONDS = 60.0
_SHOWN = 100
_PER_PAGE = 1000

# What differs, who is right, and what was done about it.
_WORDS = {
    pb.DIFFERENCE_KIND_RECEIVES_WRONGLY: (
        "receives public mail, should not",
        "register",
        "the operator is told again: off",
    ),
    pb.DIFFERENCE_KIND_DOES_NOT_RECEIVE: (
        "should receive public mail, does not",
        "register",
        "the operator is told again: on",
    ),
    pb.DIFFERENCE_KIND_MAILBOX_GONE: ("mailbox not at the operator", "operator", "removed here"),
    pb.DIFFERENCE_KIND_MAILBOX_MISSING: (
        "mailbox not in the register",
        "operator",
        "entered here, not chosen",
    ),
    pb.DIFFERENCE_KIND_ADDRESS: ("another address", "operator", "entered here"),
    pb.DIFFERENCE_KIND_CERTIFICATE: ("another certificate", "operator", "entered here"),
}
_NOT_REPAIRED = {
    pb.NOT_REPAIRED_REASON_UNSPECIFIED: "left",
    pb.NOT_REPAIRED_REASON_DRY_RUN: "left: dry run",
    pb.NOT_REPAIRED_REASON_CAP: "left: the sweep stopped at its cap",
    pb.NOT_REPAIRED_REASON_DELIVERY_REFUSED: "left: the operator refused, see krr deliveries list",
    pb.NOT_REPAIRED_REASON_NOT_ALLOWED: "left: the register's rules do not allow it",
}

_STANDS_STILL = (
    "nobody was compared for a minute: is the adapter {} running, can it read, and is its operator there?"
)

# A paragraph is one line: what shows it folds it to the terminal.
_HELP = "\n\n".join(
    (
        "Compare the register with an operator, person by person, and repair what differs.",
        "The register is right about the choice: the operator is told again. The operator is right about "
        "the mailbox, its address and certificate: the register is changed. This begins a sweep at the "
        "register, which goes on there whatever becomes of this command; a sweep of the operator that "
        "runs already is ended. The operator's adapter does the reading.",
        f"Exit codes: 0 both sides are in step, or are brought so; {REFUSED} something was left as it is, "
        "as a dry run leaves all, somebody could not be read, or the sweep was ended; "
        f"{STOPPED_AT_CAP} it found more to repair than the cap allows, and stopped: look at what differs, "
        "then begin another one; others as everywhere.",
    )
)


@app.command(help=_HELP)
def reconcile(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="The operator's, such as digipost.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Repair nothing.")] = False,
    cap: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="How many repairs at most.",
            show_default="2 % of the persons, at least 10 and at most 500",
        ),
    ] = 0,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    request = pb.StartSweepRequest(
        request_id=request_id_or_new(request_id), adapter=adapter, dry_run=dry_run, max_repairs=cap
    )
    with _admin(register) as admin:
        sweep = _ended(admin, admin.StartSweep(request).sweep_id)
        _show_sweep(admin, sweep, as_json)
    if sweep.state == pb.SWEEP_STATE_STOPPED_AT_CAP:
        raise typer.Exit(STOPPED_AT_CAP)
    if sweep.state != pb.SWEEP_STATE_FINISHED or _left(sweep) or sweep.unread_count:
        raise typer.Exit(REFUSED)


@sweeps.command("list")
def list_sweeps(
    adapter: Annotated[str, typer.Option(help="Only this adapter's.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 100,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """List sweeps, newest first."""
    found = pb.ListSweepsResponse()

    def add_page(admin: AdminServiceStub, size: int, token: str) -> str:
        page = admin.ListSweeps(pb.ListSweepsRequest(adapter=adapter, page_size=size, page_token=token))
        found.sweeps.extend(page.sweeps)
        return page.next_page_token

    with _admin(register) as admin:
        collect_pages(lambda size, token: add_page(admin, size, token), lambda: limit - len(found.sweeps))
    if as_json:
        print_json(found)
        return
    print_table(
        [
            "sweep",
            "adapter",
            "kind",
            "state",
            "persons",
            "compared",
            "unread",
            "differ",
            "repaired",
            "cap",
            "began",
            "ended",
        ],
        [_row(sweep) for sweep in found.sweeps],
    )


@sweeps.command("show")
def show(
    sweep_id: Annotated[int, typer.Argument(metavar="SWEEP", help="Which one, by its number.")],
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Show how far a sweep is, and what it found to differ so far."""
    with _admin(register) as admin:
        sweep = admin.GetSweep(pb.GetSweepRequest(sweep_id=sweep_id)).sweep
        _show_sweep(admin, sweep, as_json)


@sweeps.command()
def end(
    sweep_id: Annotated[int, typer.Argument(metavar="SWEEP", help="Which one, by its number.")],
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """End a sweep; what it repaired stays so."""
    with _admin(register) as admin:
        sweep = admin.EndSweep(pb.EndSweepRequest(sweep_id=sweep_id)).sweep
    if as_json:
        print_json(sweep)
    else:
        typer.echo(_summary(sweep))


@contextmanager
def _admin(register: str) -> Iterator[AdminServiceStub]:
    with connected(register, ADMINISTRATOR) as channel:
        yield AdminServiceStub(channel)


def _ended(admin: AdminServiceStub, sweep_id: int) -> pb.Sweep:
    """The sweep when it has ended; shows how far it is until then."""
    request = pb.GetSweepRequest(sweep_id=sweep_id)
    try:
        sweep = admin.GetSweep(request).sweep
        with progress_bar(sweep.person_count, to_standard_output=False) as show_done:
            answered = moved = clock.monotonic()
            is_said = False
            while sweep.state == pb.SWEEP_STATE_RUNNING:
                show_done(_done(sweep))
                clock.sleep(_POLL_SECONDS)
                earlier = sweep
                try:
                    sweep = admin.GetSweep(request).sweep
                    answered = clock.monotonic()
                except RegisterError as error:
                    if error.status not in AWAY or clock.monotonic() - answered > _AWAY_SECONDS:
                        raise
                if _done(sweep) != _done(earlier):
                    moved = clock.monotonic()
                elif not is_said and clock.monotonic() - moved > _STILL_SECONDS:
                    is_said = True
                    typer.echo(_STANDS_STILL.format(sweep.adapter), err=True)
    except (RegisterError, KeyboardInterrupt):
        typer.echo(
            f"sweep {sweep_id} goes on at the register: `krr sweeps show {sweep_id}` tells how far it is, "
            f"`krr sweeps end {sweep_id}` ends it",
            err=True,
        )
        raise
    return sweep


def _show_sweep(admin: AdminServiceStub, sweep: pb.Sweep, as_json: bool) -> None:
    if as_json:
        print_json(sweep)
        for difference in _differences(admin, sweep.sweep_id, _PER_PAGE):
            print_json(difference)
        return
    if sweep.difference_count:
        shown = list(islice(_differences(admin, sweep.sweep_id, _SHOWN), _SHOWN))
        print_table(
            ["difference", "what", "who is right", "done", "change"],
            [_difference_row(difference) for difference in shown],
        )
        if len(shown) < sweep.difference_count:
            more = sweep.difference_count - len(shown)
            typer.echo(f"and {more} more: krr sweeps show {sweep.sweep_id} --json", err=True)
    typer.echo(_summary(sweep))


def _differences(admin: AdminServiceStub, sweep_id: int, page_size: int) -> Iterator[pb.Difference]:
    request = pb.ListDifferencesRequest(sweep_id=sweep_id, page_size=page_size)
    while True:
        page = admin.ListDifferences(request)
        yield from page.differences
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _summary(sweep: pb.Sweep) -> str:
    state = name(pb.SweepState, sweep.state).lower().replace("_", " ")
    when = f" {time(sweep.ended_time)}" if sweep.HasField("ended_time") else ""
    unread = f", {sweep.unread_count} could not be read" if sweep.unread_count else ""
    return (
        f"{sweep.compared_count} compared with {sweep.adapter}, of {sweep.person_count} persons at its "
        f"beginning{unread}; "
        f"{sweep.difference_count} differ, {sweep.repaired_count} repaired, {_left(sweep)} left; "
        f"{state}{when} as sweep {sweep.sweep_id}"
    )


def _done(sweep: pb.Sweep) -> int:
    return sweep.compared_count + sweep.unread_count


def _left(sweep: pb.Sweep) -> int:
    return sweep.difference_count - sweep.repaired_count


def _kind(sweep: pb.Sweep) -> str:
    if sweep.rolling:
        return "rolling"
    return "dry run" if sweep.dry_run else "full"


def _row(sweep: pb.Sweep) -> list[str]:
    return [
        str(sweep.sweep_id),
        sweep.adapter,
        _kind(sweep),
        name(pb.SweepState, sweep.state),
        str(sweep.person_count),
        str(sweep.compared_count),
        str(sweep.unread_count),
        str(sweep.difference_count),
        str(sweep.repaired_count),
        str(sweep.max_repairs),
        time(sweep.started_time),
        time(sweep.ended_time),
    ]


def _difference_row(difference: pb.Difference) -> list[str]:
    what, right, done = _WORDS[difference.kind]
    if not difference.repaired:
        done = _NOT_REPAIRED[difference.not_repaired_reason]
    return [str(difference.difference_id), what, right, done, str(difference.change_number)]
