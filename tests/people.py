"""Who takes part in the tests: synthetic persons and known organisations."""

import itertools
import uuid
from collections.abc import Iterator

from krr.v1 import citizen_service_pb2 as pb

DIGIPOST = "984661185"
EBOKS = "922020175"
PUBLIC_BODY = "991825827"

# Person identifiers from KRR's published list of synthetic test persons.
OLA = "11822648950"
KARI = "06828498159"
NIELS = "23837998492"


def identifier(day: int, month: int, year: int, individual: int, *, relaxed_remainder: int = 0) -> str | None:
    """An identifier with right control digits, or None where the numbers allow none.

    month: as it stands in the identifier; above 80 for a synthetic person.
    relaxed_remainder: what the first control digit leaves, 0 to 3 (allowed from 2032).
    """
    digits = [int(digit) for digit in f"{day:02}{month:02}{year:02}{individual:03}"]
    first = (
        relaxed_remainder - sum(d * w for d, w in zip(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2), strict=True))
    ) % 11
    if first == 10:
        return None
    digits.append(first)
    second = -sum(d * w for d, w in zip(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2), strict=True)) % 11
    if second == 10:
        return None
    return "".join(map(str, [*digits, second]))


def synthetic_identifiers() -> Iterator[str]:
    """Different synthetic persons, the same ones each time."""
    for day, year, individual in itertools.product(range(1, 29), range(40, 60), range(500, 1000)):
        found = identifier(day, 81, year, individual)
        if found:
            yield found


def request_id() -> str:
    """A fresh request or event id."""
    return str(uuid.uuid4())


def register_request(
    person: str, email: str = "ola@example.com", mobile: str = "+4791234567"
) -> pb.RegisterPersonRequest:
    """A first log-in."""
    return pb.RegisterPersonRequest(request_id=request_id(), identifier=person, email=email, mobile=mobile)
