"""The machine: what runs on which core, what it has used, and what is worth noting beside figures."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

_CORES = sorted(os.sched_getaffinity(0))
_TICKS = os.sysconf("SC_CLK_TCK")

_SERVERS = set(_CORES[:1])
_OTHERS = set(_CORES[1:]) or _SERVERS


def leave_a_core_to_the_server() -> None:
    """Run this process on the other cores from now on, and what it starts: PostgreSQL, the callers."""
    os.sched_setaffinity(0, _OTHERS)


@contextmanager
def in_the_servers_place() -> Iterator[None]:
    """What is started within has the server's core."""
    os.sched_setaffinity(0, _SERVERS)
    try:
        yield
    finally:
        os.sched_setaffinity(0, _OTHERS)


def cpu_seconds(process: int) -> float:
    """What the process has used, its threads included."""
    utime, stime, *_ = _fields(process)
    return (utime + stime) / _TICKS


def family_cpu_seconds(parent: int) -> float:
    """What the process and its children have used, those children included that have ended."""
    ticks = sum(_fields(parent))
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            stat = _stat(int(path.name))
            if int(stat[1]) == parent:
                ticks += int(stat[11]) + int(stat[12])
    return ticks / _TICKS


def resident_megabytes(process: int) -> float:
    """Memory that the process holds."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(process)


def facts() -> dict[str, str]:
    """What figures depend on besides the code."""
    return {
        "commit": _git("rev-parse", "HEAD") + (" and changes" if _git("status", "--porcelain") else ""),
        "processor": _processor(),
        "cores": str(len(_CORES)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("grpcio", "protobuf", "psycopg", "sqlalchemy")},
    }


def _fields(process: int) -> list[int]:
    """utime, stime, cutime and cstime, in ticks."""
    return [int(field) for field in _stat(process)[11:15]]


def _stat(process: int) -> list[str]:
    """From the state on; before it stands a name, which may hold anything."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()
