from datetime import UTC, datetime

import pytest
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2
from krr_cli.persons_to_load import persons_in
from krr_cli.show import OPERATORS
from krr_cli.up import TEST_CITIZENS

from server.domain.contact import parse_email, parse_mobile
from server.domain.identifiers import is_synthetic, parse_mailbox_address, parse_person_identifier
from server.domain.rules import STALE_AFTER_MONTHS, months_later

# "KRR testbrukere": identifier, reservert, varslingsstatus, mobil, epost, postkasse, språk.
# Deleted persons have neither reservation nor contact points. The reserved person's mailbox
# is in the table's remark: look-ups withhold it.
PUBLISHED = """
11887197158 NEI NO    mobile email -        -
30850649509 NEI NO    mobile email -        -
17894199350 -   NO    -      -     -        -
31855699330 -   NO    -      -     -        -
04846697271 JA  NO    mobile email -        -
29890749036 JA  NO    mobile email -        -
11822648950 NEI YES   mobile email -        -
06828498159 NEI YES   mobile email -        -
23837998492 NEI YES   mobile -     -        -
25887098029 NEI YES   mobile -     -        -
12869699835 NEI YES   -      email -        -
18868299939 NEI YES   -      email -        -
22859197810 NEI YES   mobile email digipost -
26826499361 NEI YES   mobile email eboks    -
26866595592 JA  NO    -      email digipost -
18886799280 NEI YES   mobile email -        nn
16867096934 NEI YES   mobile email -        nb
01814797763 NEI YES   mobile email -        en
"""


@pytest.fixture(scope="module")
def citizens() -> list[pb.PersonToLoad]:
    return next(persons_in(TEST_CITIZENS, lambda length: None))


def as_published(citizen: pb.PersonToLoad) -> list[str]:
    now = datetime.now(UTC)
    reservations = {person_pb2.RESERVATION_RESERVED: "JA", person_pb2.RESERVATION_NOT_RESERVED: "NEI"}
    points = [point for point in (citizen.email, citizen.mobile) if point.value]
    usable = any(
        months_later(point.updated_time.ToDatetime(UTC), STALE_AFTER_MONTHS) > now for point in points
    )
    reserved = citizen.reservation == person_pb2.RESERVATION_RESERVED
    operators = {number: name for name, number in OPERATORS.items()}
    return [
        citizen.identifier,
        reservations.get(citizen.reservation, "-"),
        "YES" if usable and not reserved else "NO",
        "mobile" if citizen.mobile.value else "-",
        "email" if citizen.email.value else "-",
        operators.get(citizen.chosen_operator_organisation_number, "-"),
        person_pb2.Language.Name(citizen.language)[len("LANGUAGE_") :].lower() if citizen.language else "-",
    ]


def test_the_citizens_are_those_published(citizens: list[pb.PersonToLoad]) -> None:
    published = [line.split() for line in PUBLISHED.strip().splitlines()]

    assert [as_published(citizen) for citizen in citizens] == published


def test_only_those_without_reservation_are_deleted(citizens: list[pb.PersonToLoad]) -> None:
    deleted = [c.identifier for c in citizens if c.status == person_pb2.PERSON_STATUS_DELETED]

    assert deleted == ["17894199350", "31855699330"]
    assert all(c.status == person_pb2.PERSON_STATUS_ACTIVE for c in citizens if c.identifier not in deleted)


def test_every_value_is_one_that_the_register_takes_as_it_stands(citizens: list[pb.PersonToLoad]) -> None:
    today = datetime.now(UTC).date()
    for citizen in citizens:
        identifier = parse_person_identifier(citizen.identifier, accept_synthetic=True, today=today)
        assert is_synthetic(identifier)
        if citizen.email.value:
            assert parse_email(citizen.email.value) == citizen.email.value
        if citizen.mobile.value:
            assert parse_mobile(citizen.mobile.value) == citizen.mobile.value
        for mailbox in citizen.mailboxes:
            assert parse_mailbox_address(mailbox.address) == mailbox.address


def test_no_two_citizens_share_a_contact_point(citizens: list[pb.PersonToLoad]) -> None:
    values = [point.value for c in citizens for point in (c.email, c.mobile) if point.value]

    assert len(values) == len(set(values))
