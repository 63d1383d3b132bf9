"""After a restore: no server starts until a human decided, and readers never skip a change."""

import fcntl
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from krr.v1 import register_service_pb2
from krr.v1.register_service_pb2_grpc import RegisterServiceStub
from krr_cli.__main__ import app
from krr_client import RegisterError, connect
from sqlalchemy import NullPool, create_engine
from typer.testing import CliRunner

from server import epoch
from server.config import Settings
from server.store.epoch import Identity, RestoredDatabase, StandbyDatabase, Standing
from server.witness import BrokenWitness, Witness, Witnessed
from tests.people import PUBLIC_BODY
from tests.server.database import connect as beside
from tests.server.process import environment, run, serving
from tests.store.copied_postgres import loaded_from_dump, standby

ELSEWHERE = Identity(1, 1)
Database = psycopg.Connection[Any]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"witness_file": tmp_path / "witness"})


@pytest.fixture
def witness(settings: Settings) -> Witness:
    return Witness(settings.witness_file)


def start(settings: Settings) -> Standing:
    """What a server does with the epoch when it starts."""
    with create_engine(settings.database_url, poolclass=NullPool).begin() as connection:
        return epoch.open_epoch(connection, Witness(settings.witness_file))


def served_to(number: int, settings: Settings, database: Database) -> Standing:
    """The register, served up to the number by a server that has ended."""
    database.execute("UPDATE register SET last_change_number = %s", [number])
    return start(settings)


def lose(number: int, database: Database) -> None:
    """Restore the database to a state before the number."""
    database.execute("UPDATE register SET last_change_number = %s", [number - 1])


def on(settings: Settings, database_url: str) -> Settings:
    return settings.model_copy(update={"database_url": database_url})


def test_the_first_start_notes_its_postgresql_and_makes_the_witness(
    settings: Settings, witness: Witness, database: Database
) -> None:
    first = served_to(7, settings, database)

    assert first.noted == first.found
    assert witness.read() == Witnessed(first.epoch, 7)
    assert start(settings) == first


def test_a_witness_that_lags_behind_is_moved_up(
    settings: Settings, witness: Witness, database: Database
) -> None:
    first = served_to(7, settings, database)
    again = served_to(9, settings, database)

    assert again == replace(first, last_change_number=9)
    assert witness.read() == Witnessed(first.epoch, 9)


def test_a_register_below_its_witness_needs_a_new_epoch_and_is_not_kept(
    settings: Settings, witness: Witness, database: Database
) -> None:
    before = served_to(7, settings, database)
    lose(7, database)

    for refused in (start, epoch.show, epoch.keep, start):
        with pytest.raises(RestoredDatabase, match=r"is 6, and 7 was served.*krr epoch new"):
            refused(settings)
    epoch.new(settings)
    after = start(settings)
    assert after.epoch != before.epoch
    # The lost number stands for the lost change in logs, so it is given to no other.
    assert after.last_change_number == 7
    assert witness.read() == Witnessed(after.epoch, 7)


def test_a_register_of_another_epoch_than_its_witness_is_not_kept(
    settings: Settings, witness: Witness, database: Database
) -> None:
    before = served_to(7, settings, database)
    epoch.new(settings)
    # Restored to before the new epoch, and beyond its numbers since.
    database.execute("UPDATE register SET epoch = %s, last_change_number = 8", [before.epoch])

    for refused in (start, epoch.show, epoch.keep, start):
        with pytest.raises(RestoredDatabase, match=rf"another epoch.*{before.epoch}.*krr epoch new"):
            refused(settings)
    epoch.new(settings)
    assert start(settings).epoch != before.epoch


def test_a_failover_is_kept_or_not_by_who_knows_what_was_lost(settings: Settings, database: Database) -> None:
    primary = served_to(7, settings, database)
    with standby(settings.database_url) as copied:
        failed_over = on(settings, copied)
        for refused in (start, epoch.show, epoch.keep, epoch.new):
            with pytest.raises(StandbyDatabase, match="promote it"):
                refused(failed_over)
        with create_engine(copied, poolclass=NullPool).connect() as connection:
            connection.exec_driver_sql("SELECT pg_promote()")

        for refused in (start, epoch.show, start):
            with pytest.raises(RestoredDatabase, match=r"timeline 1; .*timeline 2.*epoch keep.*epoch new"):
                refused(failed_over)
        epoch.keep(failed_over)
        kept = start(failed_over)
        epoch.keep(failed_over)
        assert kept == start(failed_over)
        assert (kept.epoch, kept.last_change_number) == (primary.epoch, 7)

        # The former primary came back and was served from: it is the one that is wrong now.
        epoch.new(failed_over)
        with pytest.raises(RestoredDatabase, match="another epoch"):
            start(settings)


def test_a_dump_loaded_elsewhere_needs_a_decision_though_all_numbers_fit(
    settings: Settings, database: Database
) -> None:
    served_to(7, settings, database)
    with loaded_from_dump(settings.database_url) as loaded:
        with pytest.raises(RestoredDatabase, match="was restored or failed over"):
            start(on(settings, loaded))
        epoch.keep(on(settings, loaded))
        start(on(settings, loaded))


def test_new_twice_is_one_more_epoch_that_serves(
    settings: Settings, witness: Witness, database: Database
) -> None:
    epochs = [served_to(7, settings, database).epoch]
    for _ in range(2):
        epoch.new(settings)
        epochs.append(start(settings).epoch)

    assert len(set(epochs)) == 3
    assert witness.read() == Witnessed(epochs[-1], 7)


def test_a_damaged_witness_stops_all_but_a_new_epoch(
    settings: Settings, witness: Witness, database: Database
) -> None:
    served_to(7, settings, database)
    witness.path.write_bytes(b"")

    for refused in (start, epoch.show, epoch.keep):
        with pytest.raises(BrokenWitness, match="is damaged"):
            refused(settings)
    epoch.new(settings)
    start(settings)


def test_show_tells_what_is_noted_and_found(
    settings: Settings, witness: Witness, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    epoch.show(settings)
    assert capsys.readouterr().out.count("none yet") == 2

    standing = served_to(7, settings, database)
    epoch.show(settings)
    good = capsys.readouterr().out
    lose(7, database)
    with pytest.raises(RestoredDatabase):
        epoch.show(settings)
    bad = capsys.readouterr().out

    for told in (str(standing.epoch), str(standing.found), "change number 7", str(witness.path)):
        assert told in good and told in bad
    assert "nothing to decide" in good
    assert "nothing to decide" not in bad


def test_a_server_that_runs_ends_when_its_database_is_another_one() -> None:
    seen = Standing(uuid.uuid4(), 7, ELSEWHERE, ELSEWHERE)
    promoted = replace(seen, found=Identity(1, 2))

    for good in (seen, replace(seen, last_change_number=8), replace(promoted, noted=Identity(1, 2))):
        assert epoch.why_end(seen, good) is None
    for bad in (
        replace(seen, epoch=uuid.uuid4()),
        replace(seen, last_change_number=6),
        replace(seen, noted=None),
        promoted,
    ):
        assert "Start the server again" in (epoch.why_end(seen, bad) or "")


def wait_until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


@contextmanager
def deciding_new(settings: Settings) -> Iterator[None]:
    """`python -m server epoch new`, killed at the end of the block."""
    variables = environment(
        database_url=settings.database_url,
        witness_file=str(settings.witness_file),
        trace_directory=str(settings.trace_directory),
    )
    process = subprocess.Popen([sys.executable, "-m", "server", "epoch", "new"], env=variables)
    try:
        yield
        assert process.poll() is None, "it was not held up"
    finally:
        process.kill()
        process.wait()


def test_new_that_was_killed_before_its_commit_did_nothing(settings: Settings, database: Database) -> None:
    before = served_to(7, settings, database)
    waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'krr-epoch' AND wait_event_type = 'Lock'"
    with beside(settings.database_url) as other, other.transaction():
        other.execute("SELECT FROM register FOR UPDATE")
        with deciding_new(settings):
            wait_until(lambda: database.execute(waiting).rowcount == 1)

    assert start(settings) == before


def test_new_that_was_killed_after_its_commit_is_refused_until_run_again(
    settings: Settings, witness: Witness, database: Database
) -> None:
    before = served_to(7, settings, database)
    folder = os.open(witness.path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with deciding_new(settings):
        same = "SELECT FROM register WHERE epoch = %s"
        wait_until(lambda: database.execute(same, [before.epoch]).rowcount == 0)
    os.close(folder)

    assert witness.read() == Witnessed(before.epoch, 7)
    for refused in (start, epoch.keep):
        with pytest.raises(RestoredDatabase, match="another epoch"):
            refused(settings)
    epoch.new(settings)
    assert start(settings).epoch != before.epoch


def changes(address: str, cursor: str = "") -> register_service_pb2.ListChangesResponse:
    with connect(address, f"Development public-body/{PUBLIC_BODY}") as channel:
        request = register_service_pb2.ListChangesRequest(after_cursor=cursor)
        return RegisterServiceStub(channel).ListChanges(request)


def test_no_server_starts_on_a_restored_database_and_then_readers_start_again(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    unsafe = {"test_accept_unsafe_postgresql": "true", "witness_file": str(settings.witness_file)}
    database.execute("UPDATE register SET last_change_number = 7")
    with serving(tmp_path / "before", settings.database_url, **unsafe) as server:
        cursor = changes(server.address).cursor
        assert server.end() == 0
    lose(7, database)

    refused = run(tmp_path, database_url=settings.database_url, **unsafe)
    assert refused.returncode == 1
    assert "7 was served" in refused.stderr
    epoch.new(settings)
    with serving(tmp_path / "after", settings.database_url, **unsafe) as server:
        with pytest.raises(RegisterError) as old:
            changes(server.address, cursor)
        assert changes(server.address, changes(server.address).cursor).caught_up
    assert old.value.reason == "FEED_RESET"


def krr(decision: str, *options: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "krr_cli", "epoch", decision, *options],
        env=environment(**settings),
        capture_output=True,
        text=True,
    )


def test_the_command_line_passes_on_the_decision_and_what_came_of_it(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    given = {
        "database_url": settings.database_url,
        "witness_file": str(settings.witness_file),
        "trace_directory": str(tmp_path / "traces"),
    }
    served_to(7, settings, database)
    lose(7, database)

    kept = krr("keep", **given)
    assert (kept.returncode, kept.stdout) == (1, "")
    assert kept.stderr.startswith("Not kept.")
    decided = krr("new", "--yes", **given)
    assert (decided.returncode, decided.stderr) == (0, "")
    assert str(start(settings).epoch) in decided.stdout
    assert "nothing to decide" in krr("show", **given).stdout


def test_the_command_line_asks_before_readers_start_again(settings: Settings, database: Database) -> None:
    before = served_to(7, settings, database)
    doubted = CliRunner().invoke(
        app, ["epoch", "new"], env={"KRR_DATABASE_URL": settings.database_url}, input="n\n"
    )

    assert "start again" in doubted.output
    assert doubted.exit_code == 1
    assert start(settings) == before


@pytest.mark.parametrize("decision", ["show", "keep", "new"])
def test_the_command_line_says_which_database_it_was_not_given(decision: str) -> None:
    without = CliRunner().invoke(app, ["epoch", decision], env={"KRR_DATABASE_URL": None})

    assert without.exit_code == 2
    assert "KRR_DATABASE_URL is not set" in without.output
