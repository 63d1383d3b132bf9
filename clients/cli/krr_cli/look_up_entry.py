"""How a look-up's entries are shown: a row of a table, a row of CSV."""

from krr.v1 import error_reason_pb2, person_pb2
from krr.v1 import register_service_pb2 as pb

from krr_cli.person import contact, mailbox, standing
from krr_cli.show import iso_time, name

TABLE_COLUMNS = ("identifier", "standing", "contact", "mailbox", "notices", "letters")

# Programs know them by name and by place: add new ones at the end.
CSV_COLUMNS = (
    "identifier",
    "status",
    "reservation",
    "notifiable",
    "letter_route",
    "letter_route_reason",
    "email",
    "email_usable_until",
    "email_shared",
    "mobile",
    "mobile_usable_until",
    "mobile_shared",
    "expired",
    "language",
    "operator",
    "mailbox_address",
    "change_number",
    "deletion_reason",
    "refusal",
)


def table_row(entry: pb.LookUpEntry) -> list[str]:
    """A row under TABLE_COLUMNS."""
    if not entry.HasField("person"):
        return [entry.requested_identifier, _refusal(entry), *[""] * 4]
    person = entry.person
    expired = [f"{kind.lower()} has expired" for kind in _expired(entry)]
    route = name(pb.LetterRoute, entry.letter_route)
    because = name(pb.LetterRouteReason, entry.letter_route_reason)
    return [
        entry.requested_identifier,
        standing(person),
        "\n".join([contact(person), *expired]).strip(),
        mailbox(person.mailbox),
        name(pb.Notifiable, entry.notifiable),
        f"{route}\n{because}",
    ]


def csv_row(entry: pb.LookUpEntry) -> list[str]:
    """A row under CSV_COLUMNS; a refused identifier has only itself and its refusal."""
    if not entry.HasField("person"):
        return [entry.requested_identifier, *[""] * (len(CSV_COLUMNS) - 2), _refusal(entry)]
    person = entry.person
    return [
        entry.requested_identifier,
        name(person_pb2.PersonStatus, person.status),
        name(person_pb2.Reservation, person.reservation),
        name(pb.Notifiable, entry.notifiable),
        name(pb.LetterRoute, entry.letter_route),
        name(pb.LetterRouteReason, entry.letter_route_reason),
        *_point(person.email),
        *_point(person.mobile),
        " ".join(_expired(entry)),
        name(person_pb2.Language, person.language).lower(),
        person.mailbox.operator_organisation_number,
        person.mailbox.address,
        str(person.change_number),
        name(person_pb2.DeletionReason, person.deletion_reason),
        "",
    ]


def _refusal(entry: pb.LookUpEntry) -> str:
    return name(error_reason_pb2.ErrorReason, entry.refusal)


def _expired(entry: pb.LookUpEntry) -> list[str]:
    return [name(person_pb2.ContactKind, kind) for kind in entry.expired_contacts]


def _point(point: person_pb2.ContactPoint) -> tuple[str, str, str]:
    if not point.value:
        return "", "", ""
    return point.value, iso_time(point.usable_until_time), str(point.shared).lower()
