"""The witness file: whole or not there, never lower, never ignored."""

import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.store.epoch import RestoredDatabase
from server.witness import BrokenWitness, Witness, Witnessed

EPOCH = uuid.UUID("0d1f6b0e-55d5-4c83-9d5b-8f2a4a7a6f10")


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "not/yet/there/witness")


def test_a_witness_that_was_never_written_knows_nothing(witness: Witness) -> None:
    assert witness.read() is None


def test_what_is_written_is_read_by_others_and_nothing_else_is_left_behind(witness: Witness) -> None:
    for number in (0, 5, 2**63 - 1):
        witness.write(EPOCH, number)
        assert Witness(witness.path).read() == Witnessed(EPOCH, number)

    assert [path.name for path in witness.path.parent.iterdir()] == ["witness"]


def test_a_lower_number_of_the_epoch_changes_nothing(witness: Witness) -> None:
    witness.write(EPOCH, 5)
    before = witness.path.stat()
    for number in (4, 5):
        witness.write(EPOCH, number)

    assert witness.read() == Witnessed(EPOCH, 5)
    assert witness.path.stat().st_ino == before.st_ino


def test_whoever_serves_another_epoch_cannot_write_and_is_told_to_end(witness: Witness) -> None:
    witness.write(EPOCH, 5)

    with pytest.raises(RestoredDatabase, match=str(EPOCH)):
        witness.write(uuid.uuid4(), 6)
    assert witness.read() == Witnessed(EPOCH, 5)


def test_a_new_epoch_replaces_a_higher_number(witness: Witness) -> None:
    witness.write(EPOCH, 5)
    fresh = uuid.uuid4()
    witness.replace(fresh, 3)

    assert witness.read() == Witnessed(fresh, 3)


def test_many_who_write_and_read_at_once_see_it_rise_only(witness: Witness) -> None:
    ended = threading.Event()
    faults: list[BaseException] = []

    def noting_faults(do: Callable[[int], None], argument: int) -> None:
        try:
            do(argument)
        except BaseException as fault:
            faults.append(fault)

    def write(first: int) -> None:
        for number in range(first, 100, 4):
            witness.write(EPOCH, number)

    def read(last: int) -> None:
        while not ended.is_set():
            now = witness.read()
            assert now is None or now.last_change_number >= last
            last = now.last_change_number if now else 0

    reader = threading.Thread(target=noting_faults, args=(read, 0))
    writers = [threading.Thread(target=noting_faults, args=(write, first)) for first in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    reader.join()

    assert not faults
    assert witness.read() == Witnessed(EPOCH, 99)


@given(st.uuids(), st.integers(0, 2**63 - 1), st.data())
def test_one_character_that_differs_is_noticed(epoch: uuid.UUID, number: int, data: st.DataObject) -> None:
    line = Witnessed(epoch, number).line()
    assert Witnessed.from_line(line) == Witnessed(epoch, number)

    at = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda each: each != line[at]))
    for damaged in (line[:at] + other + line[at + 1 :], line[:at] + line[at + 1 :], line[:at]):
        with pytest.raises(ValueError):
            Witnessed.from_line(damaged)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"0", b"\xff" * 80, f"{EPOCH} 5 00000000\n".encode(), b"{}", b"\x00" * 4096]
)
def test_a_damaged_witness_is_named_and_neither_believed_nor_replaced(
    witness: Witness, content: bytes
) -> None:
    witness.path.parent.mkdir(parents=True)
    witness.path.write_bytes(content)

    for ask in (witness.read, lambda: witness.write(EPOCH, 5)):
        with pytest.raises(BrokenWitness, match=f"{witness.path} is damaged"):
            ask()
    assert witness.path.read_bytes() == content


def test_a_place_where_no_file_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(BrokenWitness, match="cannot be written: File exists"):
        Witness(tmp_path / "file" / "witness").write(EPOCH, 5)
    with pytest.raises(BrokenWitness, match="cannot be read: Not a directory"):
        Witness(tmp_path / "file" / "witness").read()
    with pytest.raises(BrokenWitness, match="cannot be read: Is a directory"):
        Witness(tmp_path).read()


def test_what_a_killed_writer_left_does_not_stand_in_the_way(witness: Witness) -> None:
    witness.write(EPOCH, 5)
    witness.path.with_name(".witness.new").write_text("half a li")

    assert witness.read() == Witnessed(EPOCH, 5)
    witness.write(EPOCH, 6)
    assert witness.read() == Witnessed(EPOCH, 6)
