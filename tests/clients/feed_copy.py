"""A copy of the register, kept as follow_changes() says, and a feed to keep it by."""

import threading

import grpc
from krr.v1 import person_pb2
from krr_client import ChangesPage, Following, follow_changes

from tests.clients.scripted_register import ScriptedRegister
from tests.people import synthetic_identifiers

ENOUGH_SECONDS = 20
SILENCE = 0.3
DELAY = 0.05
ALL = 4

_PEOPLE = synthetic_identifiers()
A, B, C, D, E, LAST = (next(_PEOPLE) for _ in range(6))

Pages = list[list[person_pb2.Person]]
Contents = dict[str, tuple[int, int]]


def person(identifier: str, change_number: int, *, deleted: bool = False) -> person_pb2.Person:
    status = person_pb2.PERSON_STATUS_DELETED if deleted else person_pb2.PERSON_STATUS_ACTIVE
    return person_pb2.Person(identifier=identifier, change_number=change_number, status=status)


def pages() -> Pages:
    """A feed of ALL pages in which persons change, and one is deleted."""
    return [
        [person(A, 1), person(B, 2)],
        [person(C, 3), person(A, 4)],
        [person(D, 5), person(B, 6, deleted=True)],
        [person(E, 7), person(C, 8)],
    ]


def restored_pages() -> Pages:
    """The feed after a restore from a backup: without D and E, and B never deleted."""
    return [[person(A, 1), person(B, 2)], [person(C, 3)]]


class Copy:
    """A copy as follow_changes() says it should be kept."""

    def __init__(self) -> None:
        self.persons: Contents = {}
        self.cursor = ""
        self.cursors: list[str] = []
        self.is_restarting = False
        self._came: set[str] = set()

    def save(self, page: ChangesPage) -> None:
        if page.restarted:
            self.is_restarting = True
            self._came = set()
        for each in page.persons:
            is_new = self.is_restarting and each.identifier not in self._came
            if is_new or each.change_number >= self.persons.get(each.identifier, (0, 0))[0]:
                self.persons[each.identifier] = (each.change_number, each.status)
            self._came.add(each.identifier)
        if page.caught_up and self.is_restarting:
            self.persons = {key: value for key, value in self.persons.items() if key in self._came}
            self.is_restarting = False
        self.cursor = page.cursor
        self.cursors.append(page.cursor)


def truth(scripted: ScriptedRegister) -> Contents:
    return {each.identifier: (each.change_number, each.status) for page in scripted.pages for each in page}


def following(channel: grpc.Channel, cursor: str = "") -> Following[ChangesPage]:
    return follow_changes(channel, cursor, silence=SILENCE, longest_delay=DELAY)


def keep(copy: Copy, scripted: ScriptedRegister, channel: grpc.Channel) -> list[ChangesPage]:
    """Follow until the copy has a change that comes once all else was seen; at most some seconds."""
    handed_over = []
    with following(channel, copy.cursor) as feed:
        watchdog = threading.Timer(ENOUGH_SECONDS, feed.close)
        watchdog.start()
        for page in feed:
            copy.save(page)
            handed_over.append(page)
            if LAST in copy.persons:
                break
            if page.caught_up and len(scripted.acts) == 0:
                scripted.commit(person(LAST, 100))
        watchdog.cancel()
    return handed_over
