"""`krr up`: what is started is kept running, and nothing is left behind."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.up import BIN, Everything, environment_on_free_ports, everything_up
from tests.open_folder import open_folder


def test_up_starts_once_revives_what_dies_and_ends_without_a_trace() -> None:
    with everything_up() as everything:
        second = subprocess.run(
            [BIN / "krr", "up"],
            cwd=everything.folder,
            env=everything.environment,
            capture_output=True,
            text=True,
        )
        for part in ("-m server", "postgres -D"):
            _kill_and_see_it_back(everything, part)
        folder = everything.folder

    assert (second.returncode, "runs already" in second.stderr) == (1, True)
    _eventually(lambda: not _processes_in(folder))


def test_killing_up_itself_leaves_no_process_and_loses_nothing_with_keep() -> None:
    with open_folder() as folder:
        environment = environment_on_free_ports() | {"KRR_KEEP": "1"}
        with everything_up(folder, environment, signal.SIGKILL) as everything:
            everything.shell("krr reserve 26826499361")
        _eventually(lambda: not _processes_in(folder))

        with everything_up(folder, environment) as everything:
            assert _route(everything) == "LETTER_ROUTE_PAPER"
            assert everything.shell("krr changes --json").count('"identifier"') == 18


def test_a_taken_port_is_named_before_anything_starts() -> None:
    environment = environment_on_free_ports()
    with open_folder() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        environment["KRR_SANDBOX_LINK"] = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = subprocess.run(
            [BIN / "krr", "up"], cwd=folder, env=environment, capture_output=True, text=True
        )

        assert refused.returncode == 1
        assert environment["KRR_SANDBOX_LINK"] in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert not (folder / ".krr" / "run").exists()


def _kill_and_see_it_back(everything: Everything, part: str) -> None:
    killed = _process_of(everything.folder, part)
    os.kill(killed, signal.SIGKILL)
    _eventually(lambda: _process_of(everything.folder, part) not in (0, killed))
    _eventually(lambda: _route(everything) == "LETTER_ROUTE_MAILBOX")


def _route(everything: Everything) -> str:
    answer = json.loads(everything.shell("krr look-up 26826499361 --json || true") or '{"entries": [{}]}')
    route: str = answer["entries"][0].get("letter_route", "")
    return route


def _process_of(folder: Path, part: str) -> int:
    """The process of the part that was started in the folder; 0 if there is none."""
    found = [number for number, command in _processes_in(folder).items() if part in command]
    return min(found, default=0)


def _processes_in(folder: Path) -> dict[int, str]:
    """Number and command of each process that was started in the folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in command or (process / "cwd").resolve().is_relative_to(folder):
                found[int(process.name)] = command
        except OSError:
            continue
    return found


def _eventually(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 20
    while not condition():
        if time.monotonic() > ends:
            pytest.fail("did not happen within 20 seconds")
        time.sleep(0.1)
