"""h2load, the load generator of unary calls: it costs a fraction of what it measures."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.bench.processes import Failed
from tests.bench.runs import Run, Watched, centile_99, elapsed

_DONE = re.compile(r"^requests: .*?(\d+) done.* (\d+) failed, (\d+) errored, (\d+) timeout", re.MULTILINE)
_FINISHED = re.compile(r"^finished in ([\d.]+)(us|ms|s|m)", re.MULTILINE)
_DATA = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_PREFIX = 5  # bytes that gRPC puts before a message


def is_installed() -> bool:
    """Whether there is h2load on this machine."""
    return shutil.which("h2load") is not None


def run(
    address: str,
    method: str,
    request: bytes,
    caller: str,
    *,
    clients: int,
    seconds: float,
    answer_size: int,
    folder: Path,
    watched: Watched,
) -> Run:
    """Make the same call again and again, by so many connections, one at a time on each.

    answer_size: bytes. h2load counts a refused call as a good one, but that has no answer.

    Raises Failed.
    """
    body, log = folder / "h2load.body", folder / "h2load.log"
    body.write_bytes(b"\0" + len(request).to_bytes(4) + request)
    log.unlink(missing_ok=True)
    command = ["h2load", f"--clients={clients}", "--max-concurrent-streams=1", f"--data={body}"]
    command += [f"--duration={round(seconds * 1000)}ms", f"--log-file={log}"]
    for header in ("content-type: application/grpc", "te: trailers", f"authorization: Development {caller}"):
        command += ["--header", header]
    with elapsed(watched) as passed:
        done = subprocess.run([*command, f"http://{address}{method}"], capture_output=True, text=True)
    counts, finished, data = (pattern.search(done.stdout) for pattern in (_DONE, _FINISHED, _DATA))
    if done.returncode or not (counts and finished and data):
        raise Failed(f"h2load: {done.stdout[-1000:]} {done.stderr[-1000:]}")
    calls, *bad = map(int, counts.groups())
    # Answers that had begun to come when the time was over are in one count and not in the other.
    if not calls or any(bad) or int(data[1]) < (answer_size + _PREFIX) * calls:
        raise Failed(f"not every call was answered in full: {done.stdout[-1000:]}")
    times = [int(line.rpartition("\t")[2]) / 1e6 for line in log.read_text().splitlines()]
    return Run(calls, float(finished[1]) * _SECONDS[finished[2]], centile_99(times), passed.cpu)
