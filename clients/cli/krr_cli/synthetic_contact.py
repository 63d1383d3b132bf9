"""E-mail addresses and mobile numbers of nobody, some of them shared as people share them.

Nothing is sent to them: the domains are reserved for examples (RFC 2606), and the numbers, which
Norway has none reserved for, stand on synthetic persons only.
"""

from collections.abc import Callable

# The share of persons who have the value of another person, of a small business, of a large one.
_OF_A_PARTNER = 0.007
_OF_A_BUSINESS = 0.003
_OF_A_LARGE_BUSINESS = 0.0005
# How many persons a small one registers with its own value.
_LEAST_CLIENTS, _MOST_CLIENTS = 5, 100
_LARGE_BUSINESS = 0
# A partner is one of so many persons before.
_PARTNERS = 4096

_PLACES = ("bekk", "dal", "eng", "fjell", "fjord", "haug", "hav", "lund", "myr", "nes", "skog", "vik")
_DOMAINS = [f"{place}.example.{top}" for place in _PLACES for top in ("com", "net", "org")]

# Nkom, "Norsk nummerplan": mobile numbers begin with 40, 41, 45 to 48 and 9.
# Not 45, where 4536 is taken for impossible (phonenumbers 9).
_PREFIXES = [f"+47{two}" for two in (*range(90, 100), 40, 41, 46, 47)]
_PREFIX_OF_BUSINESSES = "+4748"
_NUMBERS_PER_PREFIX = 1_000_000
_NUMBERS = len(_PREFIXES) * _NUMBERS_PER_PREFIX
# Has no factor in common with _NUMBERS: so different persons have different numbers.
_STEP = 7_368_787


class Values:
    """Values of one kind of contact point.

    random: gives numbers from 0 to below 1.
    own: the value of the person of a number, which no other person has.
    of_business: the value of the business of a number.
    """

    def __init__(
        self,
        random: Callable[[], float],
        own: Callable[[int], str],
        of_business: Callable[[int], str],
    ) -> None:
        self._random = random
        self._own = own
        self._of_business = of_business
        self._partners = [""] * _PARTNERS
        self._business = _LARGE_BUSINESS
        self._clients_to_come = 0

    def value(self, number: int) -> str:
        """The value of the person of this number: nearly always the person's own."""
        chance = self._random()
        if chance < _OF_A_PARTNER:
            of = int(self._random() * _PARTNERS)
            shared, self._partners[of] = self._partners[of], ""
            if shared:
                return shared
        elif chance < _OF_A_PARTNER + _OF_A_BUSINESS:
            return self._of_business(self._next_business())
        elif chance < _OF_A_PARTNER + _OF_A_BUSINESS + _OF_A_LARGE_BUSINESS:
            return self._of_business(_LARGE_BUSINESS)
        own = self._own(number)
        self._partners[number % _PARTNERS] = own
        return own

    def _next_business(self) -> int:
        if not self._clients_to_come:
            self._business += 1
            # Most are small.
            more = self._random() ** 3 * (_MOST_CLIENTS - _LEAST_CLIENTS + 1)
            self._clients_to_come = _LEAST_CLIENTS + int(more)
        self._clients_to_come -= 1
        return self._business


def emails(random: Callable[[], float]) -> Values:
    """E-mail addresses, such as citizen1234567@fjord.example.com."""
    return Values(
        random,
        lambda number: f"citizen{number:07}@{_DOMAINS[int(random() * len(_DOMAINS))]}",
        lambda business: f"business{business:05}@{_DOMAINS[business % len(_DOMAINS)]}",
    )


def mobiles(random: Callable[[], float]) -> Values:
    """Mobile numbers in E.164, for persons numbered from 0 to below 15 million."""
    first = int(random() * _NUMBERS)

    def own(number: int) -> str:
        prefix, rest = divmod((first + number * _STEP) % _NUMBERS, _NUMBERS_PER_PREFIX)
        return f"{_PREFIXES[prefix]}{rest:06}"

    return Values(random, own, lambda business: f"{_PREFIX_OF_BUSINESSES}{business:06}")
