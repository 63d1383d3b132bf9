"""Keeps parts running: starts them, starts those that die again, ends all in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LAUNCHER = Path(__file__).with_name("ends_with_parent.py")
_LOOK_SECONDS = 0.05
_SECONDS_TO_BECOME_READY = 60.0
_SECONDS_TO_END = 10.0
_FIRST_BACKOFF_SECONDS = 0.5
_LONGEST_BACKOFF_SECONDS = 10.0


class PartFailed(Exception):
    """A part ended, or did not become ready, while everything was being started."""


@dataclass(frozen=True)
class Part:
    """A process to keep running.

    command: the program's full path and its arguments.
    ready: whether it does its work; asked again and again until it does.
    end_signal: what asks it to end.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    ready: Callable[[], bool] = lambda: True
    end_signal: signal.Signals = signal.SIGTERM


class Supervisor:
    """Runs parts, each with its output in logs/NAME.log. Use it from the main thread only:
    parts die with the thread that started them.

    announce: hears a line when a part died.
    """

    def __init__(self, logs: Path, announce: Callable[[str], None]) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._announce = announce
        # What was started together is ended together.
        self._groups: list[list[_Running]] = []

    def start(self, *parts: Part) -> None:
        """Start the parts side by side and return when all are ready. Raises PartFailed."""
        started = [_Running(part, self._spawn(part)) for part in parts]
        self._groups.append(started)
        deadline = time.monotonic() + _SECONDS_TO_BECOME_READY
        for running in started:
            while not running.part.ready():
                self._check_alive(started, deadline)
                time.sleep(_LOOK_SECONDS)

    def run(self, part: Part) -> None:
        """Run a part that does its work and ends. Raises PartFailed if it ends badly."""
        with self._spawn(part) as process:
            try:
                code = process.wait()
            except BaseException:
                process.kill()
                raise
        if code != 0:
            raise PartFailed(f"{part.name} ended with {code}; {self._log(part)} says why")

    def keep_running(self) -> None:
        """Start again what dies, for ever; left by an exception, such as KeyboardInterrupt."""
        while True:
            time.sleep(_LOOK_SECONDS)
            for group in self._groups:
                for running in group:
                    self._revive(running)

    def end(self) -> None:
        """End all parts, the last started first; what has not ended after 10 seconds is killed."""
        for group in reversed(self._groups):
            for running in group:
                running.process.send_signal(running.part.end_signal)
            deadline = time.monotonic() + _SECONDS_TO_END
            for running in group:
                try:
                    running.process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    self._announce(f"{running.part.name} did not end within {_SECONDS_TO_END:g} s: killed")
                    running.process.kill()
                    running.process.wait()

    def kill(self) -> None:
        """End all parts at once, the hard way."""
        for group in self._groups:
            for running in group:
                running.process.kill()
                running.process.wait()

    def _spawn(self, part: Part) -> "subprocess.Popen[bytes]":
        launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid())]
        with self._log(part).open("ab") as log:
            return subprocess.Popen(
                [*launcher, *part.command],
                env=dict(part.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal reaches the supervisor alone, which ends them in order.
                start_new_session=True,
            )

    def _check_alive(self, started: "list[_Running]", deadline: float) -> None:
        for running in started:
            code, part = running.process.poll(), running.part
            if code is not None:
                raise PartFailed(f"{part.name} ended with {code}; {self._log(part)} says why")
        if time.monotonic() > deadline:
            waiting = ", ".join(r.part.name for r in started if not r.part.ready())
            raise PartFailed(f"not ready within {_SECONDS_TO_BECOME_READY:g} s: {waiting}; see {self._logs}")

    def _revive(self, running: "_Running") -> None:
        code, now = running.process.poll(), time.monotonic()
        if code is None:
            return
        if running.due is None:
            if now - running.started > _LONGEST_BACKOFF_SECONDS:
                running.backoff = _FIRST_BACKOFF_SECONDS
            running.due = now + running.backoff
            self._announce(
                f"{running.part.name} ended with {code}; starting it again in {running.backoff:g} s"
                f" ({self._log(running.part)})"
            )
            running.backoff = min(2 * running.backoff, _LONGEST_BACKOFF_SECONDS)
        elif now >= running.due:
            running.process, running.started, running.due = self._spawn(running.part), now, None

    def _log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"


@dataclass
class _Running:
    """A part and its process; due: when it is to be started again, None while it runs."""

    part: Part
    process: "subprocess.Popen[bytes]"
    started: float = field(default_factory=time.monotonic)
    backoff: float = _FIRST_BACKOFF_SECONDS
    due: float | None = None
