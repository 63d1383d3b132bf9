"""Persons in a file of JSON lines, and loading them."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

_MOST_PER_CALL = 1000


class NotAPerson(Exception):
    """A line is not a krr.v1.PersonToLoad as JSON."""


def persons_in(file: Path, read: Callable[[int], None]) -> Iterator[list[pb.PersonToLoad]]:
    """The file's persons, at most 1000 at a time.

    "age_days" on a line: the times that the line leaves out lie so many days back.
    read: hears how many bytes of the file each line took.

    Raises NotAPerson, which names the line and none of its values.
    """
    now, batch = datetime.now(UTC), list[pb.PersonToLoad]()
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            read(len(line))
            if not line.strip():
                continue
            try:
                batch.append(_person(json.loads(line), now))
            except (ValueError, TypeError, AttributeError, ParseError):
                raise NotAPerson(f"{file}, line {number}: not a krr.v1.PersonToLoad as JSON") from None
            if len(batch) == _MOST_PER_CALL:
                yield batch
                batch = []
    if batch:
        yield batch


def load_persons(admin: AdminServiceStub, batch: list[pb.PersonToLoad]) -> int:
    """Load the persons; returns how many the register did not have."""
    request = pb.LoadPersonsRequest(persons=batch)
    # From what is loaded: a load that was cut off can be repeated from the start.
    request.request_id = str(
        uuid.uuid5(uuid.NAMESPACE_OID, request.SerializeToString(deterministic=True).hex())
    )
    return admin.LoadPersons(request).loaded_count


def _person(fields: dict[str, Any], now: datetime) -> pb.PersonToLoad:
    age = fields.pop("age_days", None)
    person = ParseDict(fields, pb.PersonToLoad())
    if age is None:
        return person
    then = now - timedelta(days=age)
    for point in (person.email, person.mobile):
        if point.value and not point.HasField("updated_time"):
            point.updated_time.FromDatetime(then)
    if person.reservation == person_pb2.RESERVATION_RESERVED and not person.HasField("reservation_time"):
        person.reservation_time.FromDatetime(then)
    if person.language and not person.HasField("language_updated_time"):
        person.language_updated_time.FromDatetime(then)
    return person
