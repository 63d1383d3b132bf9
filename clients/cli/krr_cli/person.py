"""How a person is shown."""

from collections.abc import Iterator

from krr.v1 import person_pb2

from krr_cli.show import name, operator_name, time


def standing(person: person_pb2.Person) -> str:
    """Status, reservation, language, reason of a deletion and change number, a line each."""
    lines = [name(person_pb2.PersonStatus, person.status)]
    if person.reservation:
        lines.append(name(person_pb2.Reservation, person.reservation))
    if person.language:
        lines.append(f"language {name(person_pb2.Language, person.language).lower()}")
    if person.deletion_reason:
        lines.append(f"reason {name(person_pb2.DeletionReason, person.deletion_reason)}")
    if person.change_number:
        lines.append(f"change {person.change_number}")
    return "\n".join(lines)


def contact(person: person_pb2.Person) -> str:
    """The contact points, a line each: until which day each may be used for notices, whether it was
    proved to be the person's own, and whether it stands on other persons too.
    """
    return "\n".join(_contact(person))


def mailbox(held: person_pb2.Mailbox) -> str:
    """Operator and address."""
    if not held.operator_organisation_number:
        return ""
    return f"{operator_name(held.operator_organisation_number)}: {held.address}"


def _contact(person: person_pb2.Person) -> Iterator[str]:
    for point in (person.email, person.mobile):
        if point.value:
            validated = ", validated" if point.HasField("validated_time") else ""
            shared = ", shared" if point.shared else ""
            yield f"{point.value} (until {time(point.usable_until_time)[:10]}{validated}{shared})"
