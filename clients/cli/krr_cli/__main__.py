"""The command line: `krr --help`."""

import typer

from krr_cli import administration, citizen, operator, public_body, sandbox, up

_EPILOG = (
    "Exit codes: 0 done; 1 refused, the reason stands on standard error (an operator's refusal on "
    "standard output); 2 wrong usage; 3 the register, its database or the sandbox is away: try again."
)

# Without pretty exceptions: they show local variables, and so personal data.
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The contact and reservation register on the command line.",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up.up)
app.add_typer(public_body.app)
app.add_typer(citizen.app)
app.add_typer(operator.app, name="operator")
app.add_typer(administration.app)
app.add_typer(administration.deliveries, name="deliveries")
app.add_typer(administration.messages, name="messages")
app.add_typer(sandbox.app, name="sandbox")


@app.callback()
def _krr() -> None:
    pass


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
