"""`krr up`: the register with all that surrounds it, on this machine."""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer
from krr.v1 import admin_service_pb2, person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from krr_cli import parts
from krr_cli.persons_to_load import load_persons, persons_in
from krr_cli.register import ADMINISTRATOR, DEFAULT_REGISTER, connected
from krr_cli.sandbox import Supplier, address, ask
from krr_cli.sandbox_certificates import enter_certificates
from krr_cli.show import OPERATORS
from krr_cli.supervisor import PartFailed, Supervisor

# The published synthetic test persons of the real register ("KRR testbrukere", Digdir,
# reset there every Saturday); contact points and addresses are ours.
TEST_CITIZENS = Path(__file__).with_name("test_citizens.jsonl")

_FAILED = 1


def up() -> None:
    """Start the register, its adapters and sandbox suppliers, and load 18 test citizens; Ctrl-C ends all.

    State is kept in .krr/ under the current folder and starts anew each time, unless KRR_KEEP=1.
    KRR_DATABASE_URL names a PostgreSQL to use in place of a private one. KRR_LISTEN,
    KRR_SANDBOX_DIGIPOST, KRR_SANDBOX_EBOKS, KRR_SANDBOX_LINK, KRR_SANDBOX_MAILBOX,
    KRR_SANDBOX_MAILBOX_SMTP, KRR_SANDBOX_POPULATION_REGISTER, KRR_SMS_RECEIPTS_LISTEN and
    KRR_EMAIL_BOUNCES_LISTEN move what listens to another HOST:PORT.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # nohup has it ignored, and so it stays.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    state = Path(".krr").resolve()
    state.mkdir(exist_ok=True)
    with _only_one_here(state):
        _refuse_taken_ports()
        run = state / "run"
        if os.environ.get("KRR_KEEP", "0") in ("", "0"):
            _remove(run)
        supervisor = Supervisor(run / "logs", typer.echo)
        try:
            _start(supervisor, run, Path(os.environ.get("KRR_TRACE_DIRECTORY") or run / "traces"))
            supervisor.keep_running()
        except KeyboardInterrupt:
            typer.echo("ending")
        except PartFailed as failure:
            typer.echo(str(failure), err=True)
            raise typer.Exit(_FAILED) from None
        finally:
            _end(supervisor)


def _start(supervisor: Supervisor, run: Path, traces: Path) -> None:
    suppliers = run / "suppliers"
    fresh = not suppliers.exists()
    given = os.environ.get("KRR_DATABASE_URL")
    typer.echo("starting the database ...")
    database_url = given or _private_postgresql(supervisor, run / "postgresql")
    supervisor.run(parts.migration(database_url, traces))
    citizens = next(persons_in(TEST_CITIZENS, lambda _length: None))
    typer.echo("starting the sandbox suppliers ...")
    supervisor.start(*parts.sandboxes(suppliers))
    if fresh:
        _seed_accounts(citizens)
    typer.echo("starting the register ...")
    supervisor.start(parts.server(database_url, traces, run / "witness"))
    with connected(parts.register_address(), ADMINISTRATOR) as channel:
        load_persons(AdminServiceStub(channel), citizens)
        enter_certificates(AdminServiceStub(channel))
    typer.echo("starting the adapters ...")
    supervisor.start(*parts.adapters(suppliers, traces))
    # The address given may hold a password.
    database = "as KRR_DATABASE_URL says" if given else database_url
    typer.echo(_welcome(database, run, traces, len(citizens)))


def _private_postgresql(supervisor: Supervisor, data: Path) -> str:
    data.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [*parts.postgresql_command(data), "--url"], stdout=subprocess.PIPE, text=True
    ) as asking:
        try:
            supervisor.start(parts.postgresql(data, ready=lambda: asking.poll() is not None))
        finally:
            asking.terminate()
        assert asking.stdout is not None
        return asking.stdout.read().strip()


def _seed_accounts(citizens: list[admin_service_pb2.PersonToLoad]) -> None:
    """Make the operators hold what the register says, so that nothing is to be delivered."""
    for operator, number in OPERATORS.items():
        accounts = [
            {
                "identifier": citizen.identifier,
                "address": mailbox.address,
                "receives_public_mail": citizen.chosen_operator_organisation_number == number
                and citizen.reservation == person_pb2.RESERVATION_NOT_RESERVED,
            }
            for citizen in citizens
            for mailbox in citizen.mailboxes
            if mailbox.operator_organisation_number == number
        ]
        ask(Supplier(operator), "PUT", "accounts", accounts)


def _welcome(database: str, run: Path, traces: Path, citizens: int) -> str:
    krr = shlex.quote(os.path.relpath(sys.argv[0]))
    register = parts.register_address()
    # What the lines to try need to know in a terminal that has not been told.
    moved = "" if register == DEFAULT_REGISTER else f"  export KRR_REGISTER={register}\n"
    for variable in (supplier.variable for supplier in Supplier):
        if variable in os.environ:
            moved += f"  export {variable}={os.environ[variable]}\n"
    return f"""
register    {register} (gRPC, with reflection)
database    {database}
digipost    http://{address(Supplier.DIGIPOST)} (sandbox)
e-boks      http://{address(Supplier.EBOKS)} (sandbox)
sms         http://{address(Supplier.LINK)}/sandbox/phones (sandbox: what phones show)
e-mail      http://{address(Supplier.MAILBOX)}/sandbox/mailbox (sandbox: the mails)
persons     http://{address(Supplier.POPULATION_REGISTER)} (sandbox of the population register)
letters     {os.path.relpath(parts.letters(run / "suppliers"))} (PDF, in batches for a print house)
logs        {os.path.relpath(run / "logs")}, traces in {os.path.relpath(traces)}

{citizens} test citizens are loaded. To try in another terminal:
{moved}  {krr} look-up 22859197810 26866595592
  {krr} sandbox open-account digipost 11822648950
  {krr} get-person 11822648950
  {krr} sandbox messages
  {krr} sandbox letters
  {krr} sandbox behaviour eboks down
  {krr} changes --follow
  {krr} certificates list
  {krr} reconcile eboks
  {krr} --help

Ctrl-C ends everything. KRR_KEEP=1 keeps the data at the next start."""


@contextmanager
def _only_one_here(state: Path) -> Iterator[None]:
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            typer.echo(f"`krr up` runs already on {state}", err=True)
            raise typer.Exit(_FAILED) from None
        yield


def _refuse_taken_ports() -> None:
    taken = []
    for variable, listen in parts.listening_addresses().items():
        try:
            free = parts.is_free(listen)
        except (ValueError, OverflowError):
            raise typer.BadParameter(f"{variable} is not HOST:PORT") from None
        if not free:
            taken.append(f"{listen} ({variable})")
    if taken:
        typer.echo(f"taken already, set the variable to move: {', '.join(taken)}", err=True)
        raise typer.Exit(_FAILED)


def _remove(run: Path) -> None:
    # Renamed first: what an earlier PostgreSQL still writes as it ends is out of the way.
    former = run.with_name("run.former")
    shutil.rmtree(former, ignore_errors=True)
    if run.exists():
        run.rename(former)
        shutil.rmtree(former, ignore_errors=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end(supervisor: Supervisor) -> None:
    try:
        supervisor.end()
    except KeyboardInterrupt:
        supervisor.kill()
