"""Whether the register answers what was loaded: asked by its real client, before anything is timed."""

from typing import Literal

from krr.v1 import admin_service_pb2 as admin_pb
from krr.v1 import person_pb2
from krr.v1 import register_service_pb2 as pb
from krr_client import follow_changes, look_up_persons

from tests.bench.population import Population
from tests.bench.processes import Failed
from tests.bench.register import Register
from tests.people import PUBLIC_BODY

CALLER = f"public-body/{PUBLIC_BODY}"
_Contact = Literal["email", "mobile"]
_CONTACTS: dict[int, _Contact] = {
    person_pb2.CONTACT_KIND_EMAIL: "email",
    person_pb2.CONTACT_KIND_MOBILE: "mobile",
}
_Held = Literal["reservation_time", "language_updated_time", "email", "mobile"]
_HELD: tuple[_Held, ...] = ("reservation_time", "language_updated_time", "email", "mobile")


def check_look_ups(register: Register, population: Population) -> None:
    """Look up the sampled persons, for both purposes. Raises Failed where anything differs."""
    sample = population.sample
    with register.channel(CALLER) as channel:
        for purpose in (pb.PURPOSE_SERVICE_MESSAGE, pb.PURPOSE_NOTICE):
            entries = list(look_up_persons(channel, sample, purpose=purpose))
            for entry in entries:
                expected = _as_read(sample[entry.requested_identifier])
                if purpose == pb.PURPOSE_NOTICE:
                    for kind in entry.expired_contacts:
                        expected.ClearField(_CONTACTS[kind])
                if _as_loaded(entry.person) != expected:
                    raise Failed("a look-up differs from what was loaded")
            if len(entries) != len(sample):
                raise Failed(f"{len(sample)} persons looked up, {len(entries)} entries")


def check_feed(register: Register, population: Population) -> None:
    """Follow the feed from its start until caught up. Raises Failed where anything differs."""
    sample, seen, sampled = population.sample, 0, 0
    with register.channel(CALLER) as channel, follow_changes(channel) as pages:
        for page in pages:
            seen += len(page.persons)
            for person in page.persons:
                loaded = sample.get(person.identifier)
                sampled += loaded is not None
                if loaded and _as_loaded(person) != _as_read(loaded):
                    raise Failed("the feed differs from what was loaded")
            if page.caught_up:
                break
    if (seen, sampled) != (population.persons, len(sample)):
        raise Failed(f"{population.persons} persons loaded, {seen} in the feed")


def _as_read(loaded: admin_pb.PersonToLoad) -> person_pb2.Person:
    """The person as public bodies should read it."""
    person = person_pb2.Person(
        identifier=loaded.identifier,
        status=loaded.status,
        reservation=loaded.reservation,
        language=loaded.language,
    )
    for name in _HELD:
        if loaded.HasField(name):
            getattr(person, name).CopyFrom(getattr(loaded, name))
    if loaded.reservation != person_pb2.RESERVATION_RESERVED:
        for box in loaded.mailboxes:
            if box.operator_organisation_number == loaded.chosen_operator_organisation_number:
                person.mailbox.CopyFrom(box)
    return person


def _as_loaded(person: person_pb2.Person) -> person_pb2.Person:
    """What of an answer was loaded: the register itself adds the rest."""
    kept = person_pb2.Person()
    kept.CopyFrom(person)
    kept.ClearField("change_number")
    for name in _CONTACTS.values():
        if kept.HasField(name):
            getattr(kept, name).ClearField("usable_until_time")
            getattr(kept, name).ClearField("shared")
    return kept
