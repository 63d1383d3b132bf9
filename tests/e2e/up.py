"""`krr up` as its user runs it, in a folder and on ports of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.parts import free_port
from tests.open_folder import open_folder

BIN = Path(sys.executable).parent
_LISTENING = (
    "KRR_LISTEN",
    "KRR_SANDBOX_DIGIPOST",
    "KRR_SANDBOX_EBOKS",
    "KRR_SANDBOX_LINK",
    "KRR_SANDBOX_POPULATION_REGISTER",
    "KRR_SMS_RECEIPTS_LISTEN",
)


@dataclass(frozen=True)
class Everything:
    """What `krr up` started, and a shell in which `krr` finds it."""

    folder: Path
    environment: dict[str, str]
    printed: str

    @property
    def register(self) -> str:
        """Where the register listens, host:port."""
        return self.environment["KRR_LISTEN"]

    def shell(self, command: str) -> str:
        """What the command prints; fails if it fails."""
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


def environment_on_free_ports() -> dict[str, str]:
    """The environment for `krr up` and for commands that should find what it started."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KRR_")}
    chosen = {name: f"127.0.0.1:{free_port()}" for name in _LISTENING}
    return kept | chosen | {"KRR_REGISTER": chosen["KRR_LISTEN"], "PATH": f"{BIN}:{os.environ['PATH']}"}


@contextmanager
def everything_up(
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    end_signal: signal.Signals = signal.SIGINT,
) -> Iterator[Everything]:
    """`krr up`, until it says that all is there; ended as by Ctrl-C, or as told."""
    environment = environment or environment_on_free_ports()
    with ExitStack() as stack:
        folder = folder or stack.enter_context(open_folder())
        up = stack.enter_context(
            subprocess.Popen(
                [BIN / "krr", "up"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
            )
        )
        try:
            assert up.stdout is not None
            printed = ""
            for line in up.stdout:
                printed += line
                if line.startswith("Ctrl-C"):
                    break
            assert "Ctrl-C" in printed, printed
            yield Everything(folder, environment, printed)
        finally:
            up.send_signal(end_signal)
            up.communicate()
