import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from server.store.private_postgres import database_url, start
from tests.open_folder import open_folder

LAUNCHER = [sys.executable, "-m", "server.store.private_postgres"]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes user")


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """The same data for every test here: making it is what takes time."""
    with open_folder() as folder:
        yield folder


def query(url: str, statement: str) -> object:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def test_what_was_committed_survives_a_stop_and_a_crash(data_dir: Path) -> None:
    postgres = start(data_dir, durable=True)
    query(postgres.url, "CREATE TABLE seen AS SELECT 1 AS number")
    postgres.stop()
    postgres = start(data_dir, durable=True)
    query(postgres.url, "INSERT INTO seen VALUES (2)")
    postgres.kill()
    postgres = start(data_dir, durable=True)

    assert query(postgres.url, "SELECT sum(number) FROM seen") == 3
    assert query(postgres.url, "SHOW fsync") == "on"
    postgres.stop()


def test_a_crash_whose_process_number_another_has_now_blocks_nothing(data_dir: Path) -> None:
    postgres = start(data_dir, durable=False)
    postgres.kill()
    left = data_dir / "cluster" / "postmaster.pid"
    left.write_text(left.read_text().replace(left.read_text().split("\n")[0], str(os.getppid()), 1))

    start(data_dir, durable=False).stop()


def test_a_second_one_on_the_same_data_is_refused(data_dir: Path) -> None:
    postgres = start(data_dir, durable=False)

    with pytest.raises(RuntimeError, match="another PostgreSQL runs"):
        start(data_dir, durable=False)
    assert query(postgres.url, "SELECT 1") == 1
    postgres.stop()


def test_no_value_of_a_statement_stands_in_the_log(data_dir: Path) -> None:
    postgres = start(data_dir, durable=False)
    query(postgres.url, "CREATE TABLE one (name text PRIMARY KEY); INSERT INTO one VALUES ('confidential')")
    for statement in ("INSERT INTO one VALUES ('confidential')", "SELECT 'confidential'::int"):
        with pytest.raises(psycopg.Error, match="confidential"):
            query(postgres.url, statement)
    postgres.stop()

    log = (data_dir / "postgresql.log").read_text()
    assert "shut down" in log
    assert "confidential" not in log


@as_root
def test_root_runs_it_as_nobody_who_gets_no_group_of_roots(data_dir: Path) -> None:
    postgres = start(data_dir, durable=False)
    number = (data_dir / "cluster" / "postmaster.pid").read_text().splitlines()[0]
    process = Path(f"/proc/{number}")
    postgres_user, groups = process.stat().st_uid, (process / "status").read_text().partition("Groups:")[2]
    postgres.stop()

    assert postgres_user != 0
    assert groups.split("\n")[0].strip() == ""


@as_root
def test_where_nobody_cannot_enter_the_data_lives_as_long_as_its_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    postgres = start(tmp_path / "data", durable=False)
    query(postgres.url, "CREATE TABLE kept ()")
    postgres.stop()
    postgres = start(tmp_path / "data", durable=False)
    assert query(postgres.url, "SELECT to_regclass('kept')::text") == "kept"
    postgres.stop()

    shutil.rmtree(tmp_path / "data")
    postgres = start(tmp_path / "data", durable=False)
    assert query(postgres.url, "SELECT to_regclass('kept')::text") is None
    postgres.stop()
    shutil.rmtree(database_url(tmp_path / "data").partition("host=")[2])


def test_the_launcher_becomes_postgresql_and_ends_when_told(data_dir: Path) -> None:
    launched = subprocess.Popen([*LAUNCHER, str(data_dir)], stderr=subprocess.DEVNULL)
    url = subprocess.run(
        [*LAUNCHER, str(data_dir), "--url"], capture_output=True, check=True, text=True
    ).stdout
    assert query(url.strip(), "SELECT 1") == 1

    launched.send_signal(signal.SIGINT)
    assert launched.wait(10) == 0


def test_the_launcher_ends_when_its_parent_is_killed(data_dir: Path) -> None:
    launch = f"import subprocess; subprocess.run({[*LAUNCHER, str(data_dir)]!r}, stderr=subprocess.DEVNULL)"
    parent = subprocess.Popen([sys.executable, "-c", launch])
    subprocess.run([*LAUNCHER, str(data_dir), "--url"], check=True, capture_output=True)
    parent.kill()
    parent.wait()

    deadline = time.monotonic() + 10
    while (data_dir / "cluster" / "postmaster.pid").exists():
        assert time.monotonic() < deadline, "PostgreSQL still runs"
        time.sleep(0.02)
