"""Persons as bytes that are ready to be sent: how they are stored, and how answers are put together.

What of a person depends neither on who asks nor on when is encoded once, with the write, and
stored beside the row: to build it for each answer would cost more than reading it. Stored are
a header, by which is judged what depends on the moment, and a krr.v1.Person without its change
number, which an import does not know yet when it encodes.

An answer is put together as protobuf itself would: a message is the concatenation of its
fields, and a nested message is its tag, its length and its bytes.
"""

import struct
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache

from krr.v1 import person_pb2, register_service_pb2

from server import translate
from server.domain.contact import ContactKind
from server.domain.errors import Reason
from server.domain.identifiers import PersonIdentifier
from server.domain.look_up import LetterRoute, Purpose, look_up, standing_of
from server.domain.person import Person

# Change number; until when e-mail and mobile may be used, in microseconds since 1970, 0 for
# none; position in _STANDINGS. The number comes first, where the database looks for it.
_HEADER = struct.Struct(">qqqB")
_HEADER_SIZE = _HEADER.size
_STANDINGS = tuple(LetterRoute)
_POSITIONS = {standing: position for position, standing in enumerate(_STANDINGS)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode_person(person: Person) -> bytes:
    """The person as it is stored."""
    message = translate.person_to(person)
    message.ClearField("change_number")
    email_until, mobile_until = (
        microseconds(person.contacts[kind].usable_until) if kind in person.contacts else 0
        for kind in (ContactKind.EMAIL, ContactKind.MOBILE)
    )
    return encode_message(message, email_until, mobile_until, standing_of(person), person.change_number)


def encode_message(
    person: person_pb2.Person,
    email_until: int,
    mobile_until: int,
    standing: LetterRoute,
    change_number: int = 0,
) -> bytes:
    """The person of such a message, without its change number, as it is stored.

    email_until, mobile_until: when they expire, in microseconds since 1970; 0 for none.
    """
    header = _HEADER.pack(change_number, email_until, mobile_until, _POSITIONS[standing])
    return header + person.SerializeToString()


def with_shared(encoded: bytes, shared: Mapping[ContactKind, bool]) -> bytes:
    """The person as stored, with other flags on contact points that are there. The database puts
    the number of this change in.
    """
    person = person_pb2.Person.FromString(encoded[_HEADER_SIZE:])
    for kind, is_shared in shared.items():
        point = person.email if kind is ContactKind.EMAIL else person.mobile
        point.shared = is_shared
    return encoded[:_HEADER_SIZE] + person.SerializeToString()


def microseconds(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // timedelta(microseconds=1)


def changes(persons: Iterable[bytes]) -> bytes:
    """The persons of a page of the feed, as of ListChangesResponse and WatchChangesResponse."""
    parts: list[bytes] = []
    for encoded in persons:
        person = encoded[_HEADER_SIZE:]
        # Never 0: who has changed has a number.
        changed = _CHANGE_NUMBER + _varint(_HEADER.unpack_from(encoded)[0])
        parts += (_CHANGED_PERSON, _varint(len(person) + len(changed)), person, changed)
    return b"".join(parts)


def look_up_entries(
    persons: Iterable[tuple[PersonIdentifier, bytes]], *, for_notices: bool, now: int
) -> list[bytes]:
    """Entries of LookUpPersonsResponse or LookUpPersonsStreamResponse.

    persons: those looked up, each with its identifier in the request.
    for_notices: whether the purpose is Purpose.NOTICE.
    now: in microseconds since 1970.
    """
    entries = []
    for identifier, encoded in persons:
        number, email_until, mobile_until, standing = _HEADER.unpack_from(encoded)
        # None where the person has no such contact point.
        email_expired = now > email_until if email_until else None
        mobile_expired = now > mobile_until if mobile_until else None
        meaning, left_out = _judged(standing, email_expired, mobile_expired, for_notices)
        person = encoded[_HEADER_SIZE:]
        if left_out:
            message = person_pb2.Person.FromString(person)
            for kind in left_out:
                message.ClearField(kind.value)
            person = message.SerializeToString()
        # Protobuf leaves out zeros.
        changed = _CHANGE_NUMBER + _varint(number) if number else b""
        before, between = _framing(len(person) + len(changed), len(meaning))
        entries.append(b"".join((before, identifier.encode(), between, person, changed, meaning)))
    return entries


def refused_entry(requested_identifier: str, reason: Reason) -> bytes:
    """The entry of an identifier that could not be looked up."""
    entry = translate.refused_entry_to(requested_identifier, reason)
    return register_service_pb2.LookUpPersonsResponse(entries=[entry]).SerializeToString()


@cache
def _judged(
    standing: int, email_expired: bool | None, mobile_expired: bool | None, for_notices: bool
) -> tuple[bytes, tuple[ContactKind, ...]]:
    """What is said of such a person, encoded, and the contact points that are left out."""
    expired = {ContactKind.EMAIL: email_expired, ContactKind.MOBILE: mobile_expired}
    present = {kind: is_expired for kind, is_expired in expired.items() if is_expired is not None}
    purpose = Purpose.NOTICE if for_notices else Purpose.SERVICE_MESSAGE
    answer = look_up(_STANDINGS[standing], present, purpose)
    return translate.meaning_to(answer).SerializeToString(), answer.left_out


# Most persons are of a few lengths, and so is what is said of them.
@lru_cache(maxsize=10_000)
def _framing(person_size: int, meaning_size: int) -> tuple[bytes, bytes]:
    """What stands in an entry before the identifier, and between it and the person."""
    between = _PERSON + _varint(person_size)
    size = len(_REQUESTED_IDENTIFIER) + _IDENTIFIER_SIZE + len(between) + person_size + meaning_size
    return _ENTRY + _varint(size) + _REQUESTED_IDENTIFIER, between


def _varint(value: int) -> bytes:
    if value < 1 << 14:
        return _LAST[value]
    return _CONTINUED[value & 0x3FFF] + (_LAST[value >> 14] if value < 1 << 28 else _varint(value >> 14))


# Numbers of up to 14 bits: as the end of a varint, and where more follows.
_LAST = [bytes([low, high] if high else [low & 0x7F]) for high in range(128) for low in range(128, 256)]
_CONTINUED = [bytes([low, high | 0x80]) for high in range(128) for low in range(128, 256)]


def _tag(message: type, field: str, wire_type: int) -> bytes:
    number: int = message.DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]  # of any message
    return bytes([number << 3 | wire_type])


# Protobuf's wire types: 0 for numbers, 2 for what has a length.
_CHANGED_PERSON = _tag(register_service_pb2.ListChangesResponse, "persons", 2)
_ENTRY = _tag(register_service_pb2.LookUpPersonsResponse, "entries", 2)
_PERSON = _tag(register_service_pb2.LookUpEntry, "person", 2)
_IDENTIFIER_SIZE = 11
_REQUESTED_IDENTIFIER = _tag(register_service_pb2.LookUpEntry, "requested_identifier", 2) + bytes(
    [_IDENTIFIER_SIZE]
)
_CHANGE_NUMBER = _tag(person_pb2.Person, "change_number", 0)
