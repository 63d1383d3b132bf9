"""Persons in the register and at both operators, and ways in which the operators' side comes to differ."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from krr.v1 import admin_service_pb2 as admin
from krr.v1 import person_pb2
from krr.v1 import sweep_pb2 as pb

from tests.people import DIGIPOST, EBOKS

NAMES = {DIGIPOST: "digipost", EBOKS: "eboks"}

Kinds = frozenset["pb.DifferenceKind.ValueType"]


@dataclass(frozen=True)
class Account:
    """What an operator holds."""

    address: str
    receives: bool


@dataclass(frozen=True)
class Person:
    """What the register should hold.

    mailboxes: addresses by operator.
    """

    mailboxes: dict[str, str] = field(default_factory=dict)
    chosen: str = ""
    reserved: bool = False
    deleted: bool = False

    def receives_at(self, operator: str) -> bool:
        """Whether public mail goes there."""
        return self.chosen == operator and not self.reserved


def some_persons(identifiers: list[str]) -> dict[str, Person]:
    """Persons of every kind."""
    return {identifier: _person(number) for number, identifier in enumerate(identifiers)}


def accounts_in_step(persons: dict[str, Person], operator: str) -> dict[str, Account]:
    """What the operator holds of each who has a mailbox there, when both sides are in step."""
    return {
        identifier: Account(person.mailboxes[operator], person.receives_at(operator))
        for identifier, person in persons.items()
        if operator in person.mailboxes
    }


def to_load(identifier: str, person: Person) -> admin.PersonToLoad:
    """The person as the register is told."""
    if person.deleted:
        return admin.PersonToLoad(identifier=identifier, status=person_pb2.PERSON_STATUS_DELETED)
    loaded = admin.PersonToLoad(
        identifier=identifier,
        status=person_pb2.PERSON_STATUS_ACTIVE,
        reservation=(
            person_pb2.RESERVATION_RESERVED if person.reserved else person_pb2.RESERVATION_NOT_RESERVED
        ),
        mailboxes=[
            person_pb2.Mailbox(operator_organisation_number=operator, address=address)
            for operator, address in person.mailboxes.items()
        ],
        chosen_operator_organisation_number=person.chosen,
    )
    if person.reserved:
        loaded.reservation_time.GetCurrentTime()
    return loaded


@dataclass(frozen=True)
class Disturbance:
    """How an operator's side of one person comes to differ.

    of: the persons whom it can befall.
    account: what the operator then holds; None for nothing.
    kinds: what a sweep has to say of it.
    repaired: what the register should hold afterwards.
    """

    of: Callable[[Person], bool]
    account: Callable[[Person], Account | None]
    kinds: Kinds
    repaired: Callable[[Person], Person] = lambda person: person


@dataclass
class Planted:
    """What was planted at one operator: who differs, and how."""

    kinds: dict[str, Kinds] = field(default_factory=dict)
    accounts: dict[str, Account | None] = field(default_factory=dict)

    @property
    def differences(self) -> set[tuple[str, int]]:
        """Everybody who differs, with each kind of difference."""
        return {(person, kind) for person, kinds in self.kinds.items() for kind in kinds}


def disturb(
    chance: random.Random, persons: dict[str, Person], operator: str, count: int, taken: set[str]
) -> Planted:
    """Plant so many, of every way, in persons of whom nobody is taken yet; they are after it.

    Alters the persons to what they should be after the repair.
    """
    planted = Planted()
    ways = _turns(_WAYS[operator])
    left = [person for person in persons if person not in taken]
    chance.shuffle(left)
    while len(planted.kinds) < count:
        way = next(ways)
        identifier = next(each for each in left if way.of(persons[each]))
        left.remove(identifier)
        taken.add(identifier)
        planted.kinds[identifier] = way.kinds
        planted.accounts[identifier] = way.account(persons[identifier])
        persons[identifier] = way.repaired(persons[identifier])
    return planted


def switch_all(
    chance: random.Random, persons: dict[str, Person], operator: str, count: int
) -> dict[str, Account]:
    """So many accounts that receive public mail where they should not, or the other way round."""
    in_step = accounts_in_step(persons, operator)
    return {
        each: replace(in_step[each], receives=not in_step[each].receives)
        for each in chance.sample(sorted(in_step), count)
    }


def _person(number: int) -> Person:
    both = {DIGIPOST: f"synthetic.person#{number}", EBOKS: f"synthetic.person#e{number}"}
    kinds = (
        Person(),
        Person(both, DIGIPOST),
        Person(both, EBOKS),
        Person(both),
        Person(both, DIGIPOST),
        Person(both, EBOKS),
        Person(both, EBOKS, reserved=True),
        Person({DIGIPOST: both[DIGIPOST]}, DIGIPOST),
        Person({EBOKS: both[EBOKS]}),
        Person(deleted=True),
    )
    return kinds[number % len(kinds)]


def _turns(ways: tuple[Disturbance, ...]) -> Iterator[Disturbance]:
    while True:
        yield from ways


def _without(operator: str) -> Callable[[Person], Person]:
    def removed(person: Person) -> Person:
        left = {number: address for number, address in person.mailboxes.items() if number != operator}
        return replace(person, mailboxes=left, chosen="" if person.chosen == operator else person.chosen)

    return removed


def _with(operator: str, address: str) -> Callable[[Person], Person]:
    return lambda person: replace(person, mailboxes=person.mailboxes | {operator: address})


def _switched_off(operator: str) -> Disturbance:
    return Disturbance(
        of=lambda person: person.receives_at(operator),
        account=lambda person: Account(person.mailboxes[operator], receives=False),
        kinds=frozenset({pb.DIFFERENCE_KIND_DOES_NOT_RECEIVE}),
    )


def _switched_on(operator: str, of: Callable[[Person], bool]) -> Disturbance:
    return Disturbance(
        of=lambda person: of(person) and operator in person.mailboxes and not person.receives_at(operator),
        account=lambda person: Account(person.mailboxes[operator], receives=True),
        kinds=frozenset({pb.DIFFERENCE_KIND_RECEIVES_WRONGLY}),
    )


_ELSEWHERE = "synthetic.person#moved"

_WAYS = {
    DIGIPOST: (
        _switched_off(DIGIPOST),
        _switched_on(DIGIPOST, lambda person: person.chosen == EBOKS and not person.reserved),
        _switched_on(DIGIPOST, lambda person: person.reserved),
        # Somebody who is no longer in the register.
        Disturbance(
            of=lambda person: person.deleted,
            account=lambda _person: Account("synthetic.person#left", receives=True),
            kinds=frozenset({pb.DIFFERENCE_KIND_RECEIVES_WRONGLY}),
        ),
    ),
    EBOKS: (
        _switched_off(EBOKS),
        _switched_on(EBOKS, lambda person: not person.reserved),
        # An account that is gone, chosen or not.
        *(
            Disturbance(
                of=of,
                account=lambda _person: None,
                kinds=frozenset({pb.DIFFERENCE_KIND_MAILBOX_GONE}),
                repaired=_without(EBOKS),
            )
            for of in (
                lambda person: person.receives_at(EBOKS),
                lambda person: EBOKS in person.mailboxes and person.chosen != EBOKS,
            )
        ),
        Disturbance(
            of=lambda person: EBOKS in person.mailboxes,
            account=lambda person: Account(_ELSEWHERE, person.receives_at(EBOKS)),
            kinds=frozenset({pb.DIFFERENCE_KIND_ADDRESS}),
            repaired=_with(EBOKS, _ELSEWHERE),
        ),
        Disturbance(
            of=lambda person: person.receives_at(EBOKS),
            account=lambda _person: Account(_ELSEWHERE, receives=False),
            kinds=frozenset({pb.DIFFERENCE_KIND_ADDRESS, pb.DIFFERENCE_KIND_DOES_NOT_RECEIVE}),
            repaired=_with(EBOKS, _ELSEWHERE),
        ),
        Disturbance(
            of=lambda person: not person.mailboxes and not person.deleted,
            account=lambda _person: Account(_ELSEWHERE, receives=False),
            kinds=frozenset({pb.DIFFERENCE_KIND_MAILBOX_MISSING}),
            repaired=_with(EBOKS, _ELSEWHERE),
        ),
    ),
}
