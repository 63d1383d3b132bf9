"""Runs one sandbox supplier: `python -m adapters.sandbox digipost --data .krr/digipost`."""

import argparse
import signal
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette

from adapters.sandbox import digipost, eboks, link, mailbox, population_register
from adapters.sandbox.control import running

_SUPPLIERS: dict[str, Callable[[Path, str], Starlette]] = {
    "digipost": digipost.make_app,
    "eboks": eboks.make_app,
    "link": link.make_app,
    "mailbox": mailbox.make_app,
    "population-register": population_register.make_app,
}

_ENDING = (signal.SIGTERM, signal.SIGINT)

_SWITCHES = """
switches, while it runs:
  PUT  /sandbox/behaviour  {"behaviour": "normal|down|slow|refuse|lose_answer", "slow_seconds": 30}
  GET  /sandbox/behaviour

accounts, at the mailbox operators:
  PUT  /sandbox/accounts   [{"identifier": "...", "address": "...", "receives_public_mail": false}, ...]
  GET  /sandbox/accounts
  POST /sandbox/accounts   {"identifier": "...", "choose": true}
       the citizen opens an account, and the operator reports it to the register

what was sent, for a browser:
  /sandbox/phones (link), /sandbox/mailbox (mailbox)

addresses, at the population register (adapters/sandbox/population_register.py says who has which):
  PUT  /sandbox/addresses  [{"identifier": "...", "name": "...", "lines": ["..."], "postal_code": "9999",
                             "place": "...", "country": "NO", "protection": "ugradert", "dead": false}, ...]
"""


def main() -> None:
    """Serve the supplier that the command line names, until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m adapters.sandbox",
        description="Plays a supplier on this machine, for synthetic persons only.",
        epilog=_SWITCHES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=sorted(_SUPPLIERS), help="the supplier to play")
    parser.add_argument(
        "--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="default: 127.0.0.1 and a free port"
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="keeps accounts and keys; made if missing"
    )
    parser.add_argument(
        "--register",
        default="127.0.0.1:50051",
        metavar="HOST:PORT",
        help="the register that hears of opened accounts (default: %(default)s)",
    )
    arguments = parser.parse_args()
    # Before any thread is started: signals then wait for sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    with running(_SUPPLIERS[arguments.name](arguments.data, arguments.register), arguments.listen) as url:
        print(f"listening on {url}", flush=True)  # noqa: T201 (the caller reads it)
        signal.sigwait(_ENDING)


main()
