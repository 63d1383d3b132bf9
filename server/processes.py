"""Several processes of the server on one port: `python -m server --processes N`.

The parent holds the port and serves nothing. Each child is a server of its own, which has its
threads, its connections to the database and its health to itself; the kernel gives each new
connection to one of them, for as long as it lasts. A child that dies is started again; one
that refuses to serve has said why, and all end. However the parent ends, no child stays.

Each is pinned to a core: Python lets one thread run at a time, and where they move between
cores, calls cost up to twice as much.
"""

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

_REFUSED = 1
_AGAIN_AFTER_SECONDS = 0.5
_LOOK_EVERY_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1

# What a child says to its parent. Such signals queue, so none is lost among others; but they are
# Linux's own, and the module must load everywhere.
_I_SERVE = signal.SIGRTMIN if sys.platform == "linux" else signal.SIGUSR1
_HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, _I_SERVE}

_log = structlog.get_logger()


@dataclass(frozen=True)
class Place:
    """A child's place among those of its parent, the first of which is number 1."""

    number: int
    parent: int

    def take(self) -> None:
        """Pin this process to its core, to be killed when the parent is gone. Before any thread starts."""
        # The parent's threads, connections and calls would be gone too, were it the server.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # It may have gone before that took effect.
        if os.getppid() != self.parent:
            sys.exit(_REFUSED)
        pin(self.number)

    def tell_that_it_serves(self) -> None:
        """Tell the parent."""
        os.kill(self.parent, _I_SERVE)


def pin(number: int) -> None:
    """Pin this process to the number-th, from 1, of the cores that it may use, counted round and
    round. Threads that run already are not pinned.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[(number - 1) % len(cores)]})


def hear_signals() -> None:
    """Let come what a parent had its child not hear before it could end in order."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)


def run(listen: str, count: int) -> int:
    """Serve at host:port with so many processes until SIGTERM or SIGINT, or until one refuses to;
    returns the exit code, 0 where all ended in order. In the main thread, and before any other.

    Raises OSError where the port is taken.
    """
    cores = len(os.sched_getaffinity(0))
    if count > cores:
        _log.warning("more_processes_than_cores", processes=count, cores=cores)
    with held_port(listen) as (address, port):
        # To be waited for, not handled. The children inherit this, until they call hear_signals().
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        return _Children(address, port, count).run()


class _Children:
    def __init__(self, address: str, port: int, count: int) -> None:
        self._address = address
        self._port = port
        self._count = count
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        # The first alone, until it serves: what all would refuse is said once.
        self._due = {1: time.monotonic()}
        self._have_served: set[int] = set()
        self._ending = False
        self._code = 0

    def run(self) -> int:
        while self._processes or not self._ending:
            now = time.monotonic()
            for number in [each for each, due in self._due.items() if due <= now]:
                del self._due[number]
                self._processes[number] = self._start(number)
            heard = signal.sigtimedwait(_HEARD, _LOOK_EVERY_SECONDS)
            if heard is not None and heard.si_signo in (signal.SIGTERM, signal.SIGINT):
                self._end()
            elif heard is not None and heard.si_signo == _I_SERVE and not self._ending:
                self._serves(heard.si_pid)
            for number, process in list(self._processes.items()):
                code = process.poll()
                if code is not None:
                    del self._processes[number]
                    self._has_ended(number, code)
        return self._code

    def _start(self, number: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "server", "--process", str(number), "--parent", str(os.getpid())],
            env=os.environ | {"KRR_LISTEN": self._address, "KRR_PROCESSES": str(self._count)},
            stdin=subprocess.DEVNULL,
            # Ctrl-C in the terminal reaches the parent alone, which passes it on.
            start_new_session=True,
        )

    def _serves(self, pid: int) -> None:
        # One that died meanwhile is known no more; it will serve again.
        news = {number for number, process in self._processes.items() if process.pid == pid}
        news -= self._have_served
        if news and not self._have_served:
            self._due |= dict.fromkeys(range(2, self._count + 1), time.monotonic())
        self._have_served |= news
        if news and len(self._have_served) == self._count:
            _log.info("serving", listen=self._address, port=self._port, processes=self._count)

    def _end(self) -> None:
        self._ending = True
        self._due.clear()
        for process in self._processes.values():
            process.terminate()

    def _has_ended(self, number: int, code: int) -> None:
        if self._ending:
            self._code = self._code or int(code != 0)
        elif code == _REFUSED:
            self._code = _REFUSED
            self._end()
        else:
            _log.warning("process_ended", process=number, code=code, again_after=_AGAIN_AFTER_SECONDS)
            self._due[number] = time.monotonic() + _AGAIN_AFTER_SECONDS


@contextmanager
def held_port(listen: str) -> Iterator[tuple[str, int]]:
    """Have the port to share with nobody but children; gives host:port and the port, for 0 one
    that was free.

    Raises OSError where it is taken.
    """
    host, _, text = listen.rpartition(":")
    with ExitStack() as held:
        try:
            port = int(text)
            for family, *_, (ip, _, *scope) in socket.getaddrinfo(
                host.strip("[]"), None, type=socket.SOCK_STREAM
            ):
                try:
                    holder = _holder(family, (ip, port, *scope))
                except OSError as error:
                    # A name may stand for IPv6 too where there is none.
                    if error.errno != errno.EADDRNOTAVAIL:
                        raise
                else:
                    port = held.enter_context(holder).getsockname()[1]
        except (OSError, ValueError, OverflowError):
            raise OSError(f"cannot listen on {listen}: is another server there?") from None
        yield f"{host}:{port}", port


def _holder(family: int, address: tuple[Any, ...]) -> socket.socket:
    """A socket that has the port and takes no connections. Raises OSError."""
    holder = socket.socket(family)
    try:
        # Else connections that ended a moment ago would be in the way.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with socket.socket(family) as chooser:
            if address[1] == 0:
                # The holder has to ask for its port by number: it would lose another with shutdown().
                chooser.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                chooser.bind(address)
                address = (address[0], chooser.getsockname()[1], *address[2:])
            holder.bind(address)
        # Several may be bound to a port, but one alone can listen, so who can has it to himself. From
        # then on he lets in those who ask to share: his children. Another server does not ask, and
        # another parent not before it could listen itself.
        holder.listen(0)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.shutdown(socket.SHUT_RD)
    except BaseException:
        holder.close()
        raise
    return holder
