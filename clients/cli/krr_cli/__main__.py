"""The command line: `krr --help`."""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from krr_cli import (
    administration,
    campaign,
    certificates,
    changes,
    citizen,
    epoch,
    export,
    import_persons,
    look_up,
    mailboxes,
    operator,
    operator_check,
    population,
    reconcile,
    remind,
    sandbox,
    statistics,
    trace,
    up,
)
from krr_cli.register import READER_LEFT

_EPILOG = (
    "Exit codes: 0 done; 1 refused, the reason stands on standard error (an operator's refusal on "
    "standard output); 2 wrong usage; 3 the register, its database or the sandbox is away: try again; "
    "4 some identifiers were refused, a row tells each; 5 a sweep stopped at its cap; 130 ended by Ctrl-C; "
    "141 nobody read the output any more, as after `| head`."
)


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is left to write would fail once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(READER_LEFT) from None


# Without pretty exceptions: they show local variables, and so personal data.
app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The contact and reservation register on the command line.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up.up)
app.add_typer(look_up.app)
app.add_typer(changes.app)
app.add_typer(export.app)
app.add_typer(citizen.app)
operator.app.command(help=operator_check.HELP)(operator_check.check)
app.add_typer(operator.app, name="operator")
app.add_typer(mailboxes.app)
app.add_typer(administration.app)
app.add_typer(import_persons.app)
app.add_typer(import_persons.imports, name="imports")
app.command()(statistics.stats)
app.add_typer(administration.deliveries, name="deliveries")
app.add_typer(administration.messages, name="messages")
app.add_typer(certificates.app, name="certificates")
app.command(help=remind.HELP)(remind.remind)
app.add_typer(campaign.app, name="campaign")
app.add_typer(reconcile.app)
app.add_typer(reconcile.sweeps, name="sweeps")
app.add_typer(sandbox.app, name="sandbox")
app.add_typer(population.app)
app.add_typer(epoch.app, name="epoch")
app.command()(trace.trace)


@app.callback()
def _krr() -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
