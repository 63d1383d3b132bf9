"""The command line, in this process and as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from krr_cli.__main__ import app
from typer.testing import CliRunner, Result

Krr = Callable[..., Result]

_KRR = str(Path(sys.executable).parent / "krr")


def krr_at(port: int) -> Krr:
    """Runs the command line, in this process, against the register on this port."""

    def run(*arguments: str, standard_input: bytes | None = None) -> Result:
        environment = {"KRR_REGISTER": f"127.0.0.1:{port}"}
        return CliRunner().invoke(app, arguments, input=standard_input, env=environment)

    return run


class Command:
    """`krr` as a process, its output in pipes."""

    def __init__(self, port: int, *arguments: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KRR_")}
        self.process = subprocess.Popen(
            [_KRR, *arguments],
            env=environment | {"KRR_REGISTER": f"127.0.0.1:{port}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def page(self) -> Any:
        """The next line of JSON; waits for it."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the command ended"
        return json.loads(line)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def stop_reading(self) -> None:
        """Close the pipe, as `head` does when it has enough."""
        assert self.process.stdout
        self.process.stdout.close()

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit code and what it said on standard error."""
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@contextmanager
def command(port: int, *arguments: str) -> Iterator[Command]:
    """The command; killed if the test did not end it, and after a minute that it hangs."""
    running = Command(port, *arguments)
    watchdog = threading.Timer(60, running.process.kill)
    watchdog.start()
    with running.process:
        try:
            yield running
        finally:
            watchdog.cancel()
            running.process.kill()
