"""The persons of the register: the seeded synthetic population, kept as the messages that import it."""

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
from krr.v1 import admin_service_pb2 as pb
from krr.v1.person_import_pb2 import ImportPersonsResponse
from krr_cli.population import population

from tests.bench.processes import Failed
from tests.bench.register import Register

_SEED = 1
_METHOD = "/krr.v1.AdminService/ImportPersons"
_ROWS_A_MESSAGE = 1000
_LENGTH_BYTES = 4
_MOST_IDENTIFIERS = 1_000_000
_MOST_SAMPLED = 5_000
_SECONDS = 3600


@dataclass
class Population:
    """So many persons, the same ones each time.

    identifiers: of all persons, or of about a million.
    sample: some persons, by identifier.
    """

    persons: int
    identifiers: list[str] = field(default_factory=list)
    sample: dict[str, pb.PersonToLoad] = field(default_factory=dict)

    def generate(self, file: Path, already: int = 0) -> None:
        """Fill the lists, and write the messages that import them, but the first so many, to the file."""
        one_in = self.persons // _MOST_IDENTIFIERS + 1
        sampled = self.persons // _MOST_SAMPLED + 1
        numbered = enumerate(population(self.persons, _SEED, datetime.now(UTC)), start=1)
        message = pb.ImportPersonsRequest(import_id=str(uuid.uuid4()))
        with file.open("wb") as messages:
            while rows := list(islice(numbered, _ROWS_A_MESSAGE)):
                for row, person in rows:
                    if row > already:
                        message.rows.add(row=row, person=person)
                    if row % one_in == 0:
                        self.identifiers.append(person.identifier)
                    if row % sampled == 0:
                        self.sample[person.identifier] = person
                message.last = rows[-1][0] == self.persons
                if message.rows:
                    content = message.SerializeToString()
                    messages.write(len(content).to_bytes(_LENGTH_BYTES) + content)
                    message = pb.ImportPersonsRequest()

    def batches(self, count: int, size: int) -> list[list[str]]:
        """Persons at random, the same ones each time."""
        chosen = random.Random(_SEED)
        size = min(size, len(self.identifiers))
        return [chosen.sample(self.identifiers, size) for _ in range(count)]


def load(register: Register, file: Path, on_message: Callable[[], None] = lambda: None) -> int:
    """Import the persons of such a file; how many were entered. Raises Failed where any was refused.

    on_message: called before each message.
    """

    def messages() -> Iterator[bytes]:
        with file.open("rb") as stored:
            while length := stored.read(_LENGTH_BYTES):
                on_message()
                yield stored.read(int.from_bytes(length))

    with grpc.insecure_channel(register.address) as channel:
        call: Any = channel.stream_unary(_METHOD, response_deserializer=ImportPersonsResponse.FromString)
        credential = (("authorization", "Development administrator/bench"),)
        done = call(messages(), metadata=credential, timeout=_SECONDS)
    if getattr(done, "import").rejected_count:
        raise Failed(f"the import refused persons: {done}")
    return int(getattr(done, "import").loaded_count)
