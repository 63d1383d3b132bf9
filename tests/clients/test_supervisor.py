import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from krr_cli import supervisor as supervisor_module
from krr_cli.supervisor import Part, PartFailed, Supervisor

# Runs one part until it is told to end.
SUPERVISE = """
import sys
from pathlib import Path
from krr_cli.supervisor import Part, Supervisor
supervisor = Supervisor(Path(sys.argv[1]), lambda line: print(line, flush=True))
try:
    supervisor.start(Part("sleeper", ["/bin/sh", "-c", "echo $$; exec sleep 60"]))
    supervisor.keep_running()
except KeyboardInterrupt:
    supervisor.end()
"""


def loop(commands: str, logs: Path, name: str = "part") -> Part:
    """A part that runs the shell's commands and then stays, ready once it stays."""
    script = f"{commands}\necho staying\nwhile :; do sleep 0.02; done"
    log = logs / f"{name}.log"
    return Part(name, ["/bin/sh", "-c", script], ready=lambda: "staying" in log.read_text())


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def process_ids(logs: Path) -> list[int]:
    log = logs / "sleeper.log"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_a_part_that_dies_is_started_again_and_ends_with_the_supervisor(tmp_path: Path) -> None:
    supervising = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    wait_until(lambda: len(process_ids(tmp_path)) == 1)
    os.kill(process_ids(tmp_path)[0], signal.SIGKILL)
    wait_until(lambda: len(process_ids(tmp_path)) == 2)
    supervising.send_signal(signal.SIGINT)
    told = supervising.communicate(timeout=10)[0]

    assert "sleeper ended with -9" in told
    assert not any(is_alive(process_id) for process_id in process_ids(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_killing_the_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    supervising = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(tmp_path)])
    wait_until(lambda: len(process_ids(tmp_path)) == 1)
    supervising.kill()
    supervising.wait()

    wait_until(lambda: not is_alive(process_ids(tmp_path)[0]))


def test_what_was_started_last_ends_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    supervisor = Supervisor(tmp_path, pytest.fail)
    for name in ("database", "server", "adapter"):
        supervisor.start(loop(f"trap 'echo {name} >> {order}; exit' TERM", tmp_path, name))
    supervisor.end()

    assert order.read_text().split() == ["adapter", "server", "database"]


def test_a_part_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_SECONDS_TO_END", 0.2)
    told: list[str] = []
    supervisor = Supervisor(tmp_path, told.append)
    supervisor.start(loop("trap '' TERM; echo $$", tmp_path))
    process_id = int((tmp_path / "part.log").read_text().split()[0])
    supervisor.end()

    assert not is_alive(process_id)
    assert told == ["part did not end within 0.2 s: killed"]


def test_a_part_that_ends_before_it_is_ready_fails_the_start_and_names_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, pytest.fail)

    with pytest.raises(PartFailed, match=r"broken ended with 3.*broken\.log"):
        supervisor.start(Part("broken", ["/bin/sh", "-c", "exit 3"], ready=lambda: False))
    supervisor.end()


def test_a_part_with_one_task_fails_the_start_if_that_fails(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, pytest.fail)
    supervisor.run(Part("task", ["/bin/sh", "-c", "exit 0"]))

    with pytest.raises(PartFailed, match="task ended with 1"):
        supervisor.run(Part("task", ["/bin/sh", "-c", "exit 1"]))
