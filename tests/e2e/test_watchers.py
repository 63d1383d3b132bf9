"""Those who watch the change feed have the register, whatever is killed and cut meanwhile."""

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
import pytest
from krr.v1 import person_pb2
from sqlalchemy import make_url

from tests.e2e.episode import START, Episode
from tests.e2e.parts import Parts, register_alone
from tests.e2e.watchers import copies_astray, positions_astray, read_on, watch
from tests.e2e.writers import write
from tests.open_folder import open_folder

WRITERS, WATCHERS = 8, 20

pytestmark = pytest.mark.full_size_figures


@dataclass(frozen=True)
class Finished:
    """A run with all its kills, and what the feed then gives to a reader from the start."""

    parts: Parts
    episode: Episode
    kills: int
    seconds: float
    register: Mapping[str, person_pb2.Person]


@pytest.fixture(scope="module")
def finished(full_size: bool) -> Iterator[Finished]:
    kills = ("server", "postgres") * (10 if full_size else 1)
    writes_between = 300 if full_size else 100
    with open_folder() as folder, register_alone(folder) as parts:
        began = time.monotonic()
        episode = Episode(parts.register, longest_watch=12 if full_size else 3)
        with episode.under_way([write] * WRITERS, [watch] * WATCHERS):
            for part in kills:
                episode.wait_for(writes_between, "acknowledged writes")
                parts.kill(part)
                parts.wait_until_serving()
            episode.wait_for(writes_between, "acknowledged writes")
        seconds = time.monotonic() - began
        register = read_on(parts.register, START, random.Random(0))
        yield Finished(parts, episode, len(kills), seconds, register)


def test_no_page_broke_a_promise(finished: Finished) -> None:
    episode = finished.episode
    print(f"{finished.kills} kills and {WATCHERS} watchers in {finished.seconds:.0f} s:")
    print(f"{episode.states_seen()} states of {len(finished.register)} persons seen")
    print(*(f"{count} {what}" for what, count in sorted(episode.counts.items())), sep="\n")

    assert not episode.violations
    for happened in (
        "calls that failed while a part was down",
        "calls cut off by the watcher",
        "pages without",
    ):
        assert episode.counts[happened], f"no {happened}"


def test_the_copy_of_each_watcher_is_the_register(finished: Finished) -> None:
    rows = _rows(finished.parts)
    read = {identifier: (each.change_number, each.status) for identifier, each in finished.register.items()}
    assert read == {
        identifier: (number, person_pb2.PersonStatus.Value(f"PERSON_STATUS_{status}"))
        for identifier, number, status in rows
    }
    assert {status for _, _, status in rows} == {"ACTIVE", "DELETED"}

    assert len(finished.episode.final_copies) == WATCHERS
    assert not copies_astray(finished.episode, finished.register)


def test_every_write_that_anyone_was_told_of_is_in_the_register(finished: Finished) -> None:
    for identifier, number in finished.episode.known().items():
        assert finished.register[identifier].change_number >= number


def test_from_every_cursor_with_the_copy_as_of_it_the_feed_leads_to_the_register(finished: Finished) -> None:
    positions = finished.episode.positions
    assert len(positions) > 20
    print(f"{len(positions)} cursors gone on from")

    assert not positions_astray(finished.episode, finished.register)


def _rows(parts: Parts) -> list[tuple[str, int, str]]:
    url = make_url(parts.database_url)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as connection:
        return connection.execute("SELECT identifier, change_number, status FROM person").fetchall()
