"""Programs that the bench starts; none outlives it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import krr_cli

from tests.bench import machine

_ENDS_WITH_PARENT = Path(krr_cli.__file__).with_name("ends_with_parent.py")
_SECONDS_TO_END = 30

Process = subprocess.Popen[str]


class Failed(Exception):
    """Something did not work; the text says what."""


@contextmanager
def running(
    *command: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    in_the_servers_place: bool = False,
) -> Iterator[Process]:
    """Start the Python program, with pipes to it and from it; end it at last."""
    core = machine.in_the_servers_place() if in_the_servers_place else nullcontext()
    with core, log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-I", str(_ENDS_WITH_PARENT), str(os.getpid()), sys.executable, *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Ctrl-C in the terminal is for the bench, which ends the others in their order.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def line_from(process: Process, log: Path) -> str:
    """The next line that the program prints. Raises Failed where it ends instead."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise Failed(f"{log.stem} ended: {last_words(log)}")
    return line.strip()


def last_words(log: Path) -> str:
    """The end of what a program has logged."""
    return log.read_text().strip()[-2000:]
