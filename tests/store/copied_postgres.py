"""Copies of a running PostgreSQL, made as operators make them: standbys, backups, dumps."""

import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from server.store import private_postgres
from tests.open_folder import open_folder
from tests.store.conftest import connect

_ENVIRONMENT = {"LC_ALL": "C"}


@contextmanager
def standby(url: str) -> Iterator[str]:
    """URL of the database on a standby, which answers and takes no writes until promoted."""
    with open_folder() as folder:
        copied = _back_up(url, folder, "standby.signal")
        launcher = [sys.executable, "-m", "server.store.private_postgres", str(folder), "--not-durable"]
        running = subprocess.Popen(launcher, stderr=subprocess.DEVNULL)
        try:
            _wait_for(copied)
            yield copied
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(20)


@contextmanager
def recovered(url: str) -> Iterator[str]:
    """URL of the database on a PostgreSQL that was recovered from a backup of now."""
    with open_folder() as folder:
        copied = _back_up(url, folder, "recovery.signal")
        running = private_postgres.start(folder, durable=False)
        _wait_for_promotion(copied)
        yield copied
        running.stop()


@contextmanager
def loaded_from_dump(url: str) -> Iterator[str]:
    """URL of a database on a fresh PostgreSQL, loaded from a dump."""
    source = make_url(url)
    with open_folder() as folder:
        running = private_postgres.start(folder, durable=False)
        target = make_url(running.url)
        dump, load = (
            [_program(url, name), f"--host={at.query['host']}", f"--username={at.username}", str(at.database)]
            for name, at in (("pg_dump", source), ("psql", target))
        )
        dumped = subprocess.run(dump, check=True, env=_ENVIRONMENT, stdout=subprocess.PIPE).stdout
        stop_at_errors = [*load, "--quiet", "--set=ON_ERROR_STOP=1"]
        subprocess.run(stop_at_errors, check=True, env=_ENVIRONMENT, input=dumped, stdout=subprocess.DEVNULL)
        yield running.url
        running.stop()


def _back_up(url: str, folder: Path, how_to_start: str) -> str:
    source, cluster = make_url(url), folder / "cluster"
    subprocess.run(
        [
            _program(url, "pg_basebackup"),
            f"--pgdata={cluster}",
            f"--host={source.query['host']}",
            f"--username={source.username}",
            "--checkpoint=fast",
            "--no-sync",
            "--write-recovery-conf",
        ],
        check=True,
        env=_ENVIRONMENT,
    )
    (cluster / "standby.signal").rename(cluster / how_to_start)
    with (cluster / "postgresql.auto.conf").open("a") as settings:
        # There is no archive: the backup holds all the log that it needs.
        settings.write("restore_command = 'false'\n")
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, cluster, *cluster.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    copied = make_url(private_postgres.database_url(folder)).set(database=source.database)
    return copied.render_as_string(hide_password=False)


def _program(url: str, name: str) -> str:
    with connect(url) as connection:
        row = connection.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
    assert row is not None
    return f"{row[0]}/{name}"


def _wait_for(url: str) -> None:
    ends = time.monotonic() + 20
    while True:
        try:
            return connect(url).close()
        except psycopg.OperationalError:
            assert time.monotonic() < ends, "the standby does not answer"
            time.sleep(0.05)


def _wait_for_promotion(url: str) -> None:
    # It answers as a standby before it has recovered.
    ends = time.monotonic() + 20
    with connect(url) as connection:
        while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
            assert time.monotonic() < ends, "still recovering"
            time.sleep(0.05)
