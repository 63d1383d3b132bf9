"""Batches for the print house: each letter once, whatever is killed."""

import csv
import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.letter.batches import LARGEST_BATCH, Batches, Letter, batches_in
from tests.adapters.fake_register import eventually

ROOT = Path(__file__).parents[2]


def letter(text: str = "A letter") -> Letter:
    return Letter(b"%PDF " + text.encode(), 1)


def new_id() -> str:
    return str(uuid.uuid4())


def add_all(batches: Batches, message_ids: list[str]) -> list[str]:
    with ThreadPoolExecutor(len(message_ids)) as pool:
        return list(pool.map(lambda message_id: batches.add(message_id, letter(message_id)), message_ids))


def printed(folder: Path) -> list[str]:
    """The message of each letter that a print house finds, once for each time."""
    return sorted(file.stem for file in folder.rglob("*.pdf") if file.parent.name.startswith("batch-"))


def assert_batches_are_whole(folder: Path) -> None:
    for batch in (file.parent for file in folder.rglob("batch-*/SHA256SUMS")):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=batch, check=True)
        rows = list(csv.DictReader((batch / "manifest.csv").read_text().splitlines()))
        assert [row["number"] for row in rows] == [str(number + 1) for number in range(len(rows))]
        files = {row["file"]: row["sha256"] for row in rows}
        assert files == {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in batch.glob("*.pdf")
        }
        assert {file.name for file in batch.iterdir()} == {*files, "manifest.csv", "SHA256SUMS"}


def test_letters_that_come_together_are_one_batch_and_the_next_has_the_next_number(tmp_path: Path) -> None:
    with batches_in(tmp_path, 2) as batches:
        first = add_all(batches, [new_id() for _ in range(20)])
        second = batches.add(new_id(), letter())
    assert sorted(first) == [f"000001/{number:04}" for number in range(1, 21)]
    assert second == "000002/0001"
    assert_batches_are_whole(tmp_path)


def test_a_full_batch_does_not_wait(tmp_path: Path) -> None:
    with batches_in(tmp_path, 60) as batches:
        begun = time.monotonic()
        places = add_all(batches, [new_id() for _ in range(LARGEST_BATCH)])
        assert time.monotonic() - begun < 30
    assert len(set(places)) == LARGEST_BATCH
    assert_batches_are_whole(tmp_path)


def test_a_message_that_comes_again_at_once_or_after_a_restart_is_where_it_was(tmp_path: Path) -> None:
    message_id = new_id()
    with batches_in(tmp_path, 0.2) as batches:
        assert add_all(batches, [message_id] * 5) == ["000001/0001"] * 5
        assert batches.add(message_id, letter("another")) == "000001/0001"
    with batches_in(tmp_path, 0.2) as batches:
        assert batches.place_of(message_id) == "000001/0001"
        assert batches.place_of(new_id()) is None
    assert printed(tmp_path) == [message_id]


def test_a_batch_that_the_print_house_took_away_keeps_its_number_and_its_letters(tmp_path: Path) -> None:
    taken, kept = new_id(), new_id()
    with batches_in(tmp_path, 0.01) as batches:
        batches.add(taken, letter())
    (tmp_path / "batch-000001").rename(tmp_path.with_name("at the printer's"))
    with batches_in(tmp_path, 0.01) as batches:
        assert batches.add(taken, letter()) == "000001/0001"
        assert batches.add(kept, letter()) == "000002/0001"
    assert printed(tmp_path) == [kept]


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with batches_in(tmp_path, 0.01), pytest.raises(BlockingIOError), batches_in(tmp_path, 0.01):
        pass
    with batches_in(tmp_path, 0.01):
        pass


def test_what_cannot_be_written_fails_every_letter_of_the_batch_and_all_can_be_written_later(
    tmp_path: Path,
) -> None:
    message_ids = [new_id() for _ in range(3)]
    with batches_in(tmp_path, 0.1) as batches:
        # A name that is taken by a file: nobody, root included, makes a folder there.
        (tmp_path / ".batch-000001").write_text("in the way")
        for fault in faults_of(batches, message_ids):
            assert fault.errno == errno.EEXIST
        (tmp_path / ".batch-000001").unlink()
        assert len(set(add_all(batches, message_ids))) == 3
    assert printed(tmp_path) == sorted(message_ids)
    assert_batches_are_whole(tmp_path)


def test_a_batch_that_was_decided_and_could_not_be_named_is_the_one_that_its_letters_are_in(
    tmp_path: Path,
) -> None:
    message_id, later = new_id(), new_id()
    with batches_in(tmp_path, 0.1) as batches:
        in_the_way = tmp_path / "batch-000001" / "notes"
        in_the_way.mkdir(parents=True)
        (fault,) = faults_of(batches, [message_id])
        assert fault.errno == errno.ENOTEMPTY
        in_the_way.rmdir()
        in_the_way.parent.rmdir()
        assert batches.add(message_id, letter()) == "000001/0001"
        assert batches.add(later, letter()) == "000002/0001"
    assert printed(tmp_path) == sorted([message_id, later])
    assert_batches_are_whole(tmp_path)


def faults_of(batches: Batches, message_ids: list[str]) -> list[OSError]:
    faults: list[OSError] = []

    def add(message_id: str) -> None:
        try:
            batches.add(message_id, letter())
        except OSError as fault:
            faults.append(fault)

    threads = [threading.Thread(target=add, args=[message_id]) for message_id in message_ids]
    for thread in threads:
        thread.start()
    eventually(lambda: not any(thread.is_alive() for thread in threads), 30)
    assert len(faults) == len(message_ids)
    return faults


# Ends itself, as by kill -9, before its n-th step on the disk; what it was told is on its standard output.
_KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from adapters.letter.batches import Letter, batches_in

folder, message_ids = Path(sys.argv[1]), sys.argv[2:]

def put(parent):
    with batches_in(folder / str(parent), 0.01) as batches:
        for message_id in message_ids:
            print("told", parent, message_id, batches.add(message_id, Letter(b"%PDF", 1)), flush=True)

def die_at(step):
    steps = itertools.count()
    def watch(event, _):
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)

for step in range(200):
    child = os.fork()
    if not child:
        die_at(step)
        put(step)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    # The print house comes just then.
    for batch in (folder / str(step)).glob("batch-*"):
        (folder / str(step) / "taken").mkdir(exist_ok=True)
        batch.rename(folder / str(step) / "taken" / batch.name)
    put(step)
    if status == 0:
        break
else:
    raise SystemExit("never came to its end")
"""


def test_killed_before_any_step_on_the_disk_each_letter_is_in_one_batch(tmp_path: Path) -> None:
    message_ids = sorted(new_id() for _ in range(2))
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, tmp_path, *message_ids],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    folders = list(tmp_path.iterdir())
    assert len(folders) > 25
    for folder in folders:
        assert printed(folder) == message_ids
        assert_batches_are_whole(folder)
        assert not list(folder.glob(".batch-*"))
    # Who was told a place is told the same after the kill.
    told: dict[tuple[str, str], set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("told "):
            _, step, message_id, place = line.split()
            told.setdefault((step, message_id), set()).add(place)
    assert len(told) == 2 * len(folders)
    assert all(len(places) == 1 for places in told.values())
