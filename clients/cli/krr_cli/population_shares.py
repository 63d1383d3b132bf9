"""What persons of the register hold, and how many hold the same."""

from dataclasses import dataclass
from itertools import product

from krr_cli.show import OPERATORS

_DIGIPOST, _EBOKS = OPERATORS["digipost"], OPERATORS["eboks"]

# The register's published statistics of 2021. ACTIVE persons by what they
# can be reached at; those with neither are reserved, all but one.
_DELETED = 116_904
_BY_CONTACT = {(True, True): 4_108_442, (True, False): 23_607, (False, True): 67_322}
_RESERVED_WITHOUT_CONTACT, _NEITHER = 15_018, 1
_WITH_CONTACT = sum(_BY_CONTACT.values())
_RESERVED_WITH_CONTACT = 121_156
# Mailboxes by operator: chosen by who is not reserved (published as active), and others.
_ACTIVE = {_DIGIPOST: 1_528_613, _EBOKS: 189_135}
_INACTIVE = {_DIGIPOST: 12_138, _EBOKS: 9_554}
# Ours: how the others divide. They belong to persons who chose another operator's, to
# reserved persons, and to persons who chose none.
_BESIDE_ANOTHER = {_DIGIPOST: 8_000, _EBOKS: 7_000}
_OF_RESERVED = {_DIGIPOST: 2_500, _EBOKS: 1_500}

_Mailboxes = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """Persons who hold the same.

    operators: those with a mailbox of the person's; chosen is one of them, or "" for none.
    """

    active: bool
    reserved: bool = False
    has_email: bool = False
    has_mobile: bool = False
    operators: tuple[str, ...] = ()
    chosen: str = ""


def kinds() -> list[tuple[Kind, float]]:
    """Every kind of person, and how many the real register has."""
    found: list[tuple[Kind, float]] = [
        (Kind(active=False), _DELETED),
        (Kind(active=True, reserved=True), _RESERVED_WITHOUT_CONTACT),
        (Kind(active=True), _NEITHER),
    ]
    mailboxes = {False: _of_others(), True: _of_reserved()}
    for ((has_email, has_mobile), persons), reserved in product(_BY_CONTACT.items(), (False, True)):
        share = persons / _WITH_CONTACT
        found += [
            (Kind(True, reserved, has_email, has_mobile, operators, chosen), share * holders)
            for (operators, chosen), holders in mailboxes[reserved].items()
        ]
    return found


def _of_others() -> dict[_Mailboxes, int]:
    """What mailboxes persons with contact info have who are not reserved, and how many persons."""
    holders: dict[_Mailboxes, int] = {}
    for operator, other in ((_DIGIPOST, _EBOKS), (_EBOKS, _DIGIPOST)):
        holders[(_DIGIPOST, _EBOKS), operator] = _BESIDE_ANOTHER[other]
        holders[(operator,), operator] = _ACTIVE[operator] - _BESIDE_ANOTHER[other]
        holders[(operator,), ""] = _INACTIVE[operator] - _BESIDE_ANOTHER[operator] - _OF_RESERVED[operator]
    return _and_none(holders, _WITH_CONTACT - _RESERVED_WITH_CONTACT)


def _of_reserved() -> dict[_Mailboxes, int]:
    """The same of reserved persons."""
    holders: dict[_Mailboxes, int] = {((each,), each): count for each, count in _OF_RESERVED.items()}
    return _and_none(holders, _RESERVED_WITH_CONTACT)


def _and_none(holders: dict[_Mailboxes, int], persons: int) -> dict[_Mailboxes, int]:
    return holders | {((), ""): persons - sum(holders.values())}
