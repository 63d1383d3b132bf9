"""The synthetic population: shares, distinctness, and that the register takes it."""

import itertools
import json
import tracemalloc
from collections import Counter, deque
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from krr.v1 import admin_service_pb2 as pb
from krr.v1 import person_pb2
from krr_cli.person_csv import read_csv
from krr_cli.population import population
from krr_cli.synthetic_contact import mobiles
from krr_cli.synthetic_identifiers import MOST_IDENTIFIERS

from server.__main__ import Server
from server.domain.contact import ContactKind, ContactPoint, parse_email, parse_mobile
from server.domain.identifiers import parse_person_identifier
from tests.clients.command_line import command, krr_at
from tests.people import DIGIPOST, EBOKS

NOW = datetime(2026, 11, 22, tzinfo=UTC)
TODAY = ["--now", "2026-11-22"]
MANY = 40_000
KRR = krr_at(0)


@pytest.fixture(scope="module")
def people() -> list[pb.PersonToLoad]:
    return list(population(MANY, 1, NOW))


def share(people: list[pb.PersonToLoad], counted: int) -> float:
    active = sum(each.status == person_pb2.PERSON_STATUS_ACTIVE for each in people)
    return counted / active


def is_expired(point: person_pb2.ContactPoint) -> bool:
    updated, confirmed, validated = (
        # An absent time reads as 1970.
        time.ToDatetime(UTC)
        for time in (point.updated_time, point.confirmed_time, point.validated_time)
    )
    return ContactPoint(value="", updated=updated, confirmed=confirmed, validated=validated).is_expired(NOW)


def points(person: pb.PersonToLoad) -> list[person_pb2.ContactPoint]:
    return [getattr(person, kind) for kind in ContactKind if person.HasField(kind.value)]


def values(people: list[pb.PersonToLoad], kind: ContactKind) -> Counter[str]:
    return Counter(getattr(each, kind).value for each in people if each.HasField(kind.value))


# Of the published statistics: how many of 4 214 390 active persons.
@pytest.mark.parametrize(
    ("published", "holds"),
    [
        (4_132_049, lambda each: each.HasField("email")),
        (4_175_764, lambda each: each.HasField("mobile")),
        (4_108_442, lambda each: each.HasField("email") and each.HasField("mobile")),
        (4_199_371, lambda each: each.HasField("email") or each.HasField("mobile")),
        (121_156, lambda each: is_reserved(each) and points(each)),
        (15_018, lambda each: is_reserved(each) and not points(each)),
        (
            1_528_613,
            lambda each: not is_reserved(each) and each.chosen_operator_organisation_number == DIGIPOST,
        ),
        (189_135, lambda each: not is_reserved(each) and each.chosen_operator_organisation_number == EBOKS),
        (12_138, lambda each: has_inactive(each, DIGIPOST)),
        (9_554, lambda each: has_inactive(each, EBOKS)),
    ],
    ids=[
        *("e-mail", "mobile", "both", "either", "reserved with contact", "reserved without"),
        *("digipost active", "e-boks active", "digipost inactive", "e-boks inactive"),
    ],
)
def test_shares_are_the_published_ones(people: list[pb.PersonToLoad], published: int, holds: object) -> None:
    expected = published / 4_214_390
    # By chance it may be so many standard deviations off.
    tolerance = 4 * (expected * (1 - expected) / MANY) ** 0.5

    assert callable(holds)
    found = share(people, sum(bool(holds(each)) for each in people))
    assert found == pytest.approx(expected, abs=tolerance)


def is_reserved(person: pb.PersonToLoad) -> bool:
    return person.reservation == person_pb2.RESERVATION_RESERVED


def has_inactive(person: pb.PersonToLoad, operator: str) -> bool:
    held = {box.operator_organisation_number for box in person.mailboxes}
    return operator in held and (
        is_reserved(person) or person.chosen_operator_organisation_number != operator
    )


def test_deleted_persons_are_as_many_as_published_and_hold_nothing(people: list[pb.PersonToLoad]) -> None:
    deleted = [each for each in people if each.status == person_pb2.PERSON_STATUS_DELETED]

    assert len(deleted) / MANY == pytest.approx(116_904 / 4_331_294, abs=0.003)
    assert all(
        each == pb.PersonToLoad(identifier=each.identifier, status=person_pb2.PERSON_STATUS_DELETED)
        for each in deleted
    )


def test_some_have_mailboxes_at_both_operators(people: list[pb.PersonToLoad]) -> None:
    chosen = Counter(each.chosen_operator_organisation_number for each in people if len(each.mailboxes) == 2)

    assert chosen[DIGIPOST] > 10
    assert chosen[EBOKS] > 10


def test_a_few_in_a_hundred_have_only_expired_contact_info(people: list[pb.PersonToLoad]) -> None:
    some = people[:10_000]
    kinds = Counter(frozenset(map(is_expired, points(each))) for each in some)

    assert 0.04 < share(some, kinds[frozenset([True])]) < 0.08
    assert share(some, kinds[frozenset([True, False])]) > 0.01


def test_most_confirmed_and_many_validated(people: list[pb.PersonToLoad]) -> None:
    all_points = [point for each in people for point in points(each)]
    confirmed = sum(point.HasField("confirmed_time") for point in all_points)
    validated = sum(point.HasField("validated_time") for point in all_points)

    assert 0.7 < confirmed / len(all_points) < 0.9
    assert 0.4 < validated / len(all_points) < 0.7


def test_all_languages_are_spoken_and_most_chose_bokmaal(people: list[pb.PersonToLoad]) -> None:
    languages = Counter(each.language for each in people)

    assert set(languages) == set(person_pb2.Language.values())
    assert languages[person_pb2.LANGUAGE_NB] > MANY * 0.75


@pytest.mark.parametrize("kind", list(ContactKind))
def test_values_are_shared_by_couples_by_clients_of_businesses_and_else_by_nobody(
    people: list[pb.PersonToLoad], kind: ContactKind
) -> None:
    counts = values(people, kind)
    of_businesses = {
        value: count
        for value, count in counts.items()
        if value.startswith("business" if kind is ContactKind.EMAIL else "+4748")
    }
    large, *small = sorted(of_businesses.values(), reverse=True)
    others = Counter(count for value, count in counts.items() if value not in of_businesses)

    assert set(others) == {1, 2}
    assert 0.01 < 2 * others[2] / MANY < 0.02
    assert large > max(small)
    # The last one has clients to come.
    assert sum(not 5 <= count <= 100 for count in small) <= 1
    assert len(small) > 3


def test_identifiers_are_distinct_synthetic_and_right(people: list[pb.PersonToLoad]) -> None:
    found = {each.identifier for each in people}

    assert len(found) == MANY
    for each in found:
        parse_person_identifier(each, accept_synthetic=True, today=date(2026, 11, 22))
        assert int(each[2:4]) > 80


def test_births_are_spread_over_years_and_some_have_d_numbers(people: list[pb.PersonToLoad]) -> None:
    years = Counter(each.identifier[4:6] for each in people)
    d_numbers = sum(each.identifier[0] > "3" for each in people)

    assert len({each.identifier[6:9] for each in people}) == 1000
    assert len(years) == 80
    assert max(years.values()) < 1.5 * min(years.values())
    assert 0.01 < d_numbers / MANY < 0.06


def test_the_register_takes_every_value_as_it_stands(people: list[pb.PersonToLoad]) -> None:
    some = itertools.islice(people, 0, MANY, 40)
    # All domains and prefixes, too.
    emails = {each.email.value.partition("@")[2]: each.email.value for each in people if each.email.value}
    numbers = {each.mobile.value[:6]: each.mobile.value for each in people if each.mobile.value}
    for each in some:
        emails[each.identifier], numbers[each.identifier] = each.email.value, each.mobile.value
    for email in filter(None, emails.values()):
        assert parse_email(email) == email
    for number in filter(None, numbers.values()):
        assert parse_mobile(number) == number


def test_a_register_loads_it(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    krr = krr_at(server.port)

    assert krr("population", str(file), "--persons", "300").exit_code == 0
    assert krr("load", str(file)).stdout == "300 loaded, 0 were there already\n"


def test_it_is_the_same_for_a_seed_and_a_day_and_begins_the_same_however_many(
    people: list[pb.PersonToLoad],
) -> None:
    fewer = list(population(500, 1, NOW))
    others = list(population(500, 2, NOW))
    later = list(population(500, 1, NOW.replace(hour=1)))

    assert fewer == people[:500]
    assert len({each.identifier for each in (*fewer, *others)}) > 990
    assert [each.identifier for each in later] == [each.identifier for each in fewer]
    assert sum(a == b for a, b in zip(fewer, later, strict=True)) < 50


def test_no_number_of_a_country_is_given_twice() -> None:
    own = mobiles(lambda: 0.9999).value
    # Every 97th of as many as there can be, all of them apart.
    places = range(0, MOST_IDENTIFIERS, 97)

    assert len({own(number) for number in places}) == len(places)


def test_memory_does_not_grow_with_the_population() -> None:
    persons = population(MANY, 1, NOW)
    next(persons)
    tracemalloc.start()
    taken = []
    try:
        for _ in range(2):
            deque(itertools.islice(persons, 5_000), maxlen=0)
            taken.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()

    # The identifiers of the latter 5000 alone would take five times as much.
    assert taken[1] - taken[0] < 60_000


def test_the_same_persons_stand_in_csv_and_in_json_lines(tmp_path: Path) -> None:
    as_csv, as_json = tmp_path / "people.csv", tmp_path / "people.jsonl"
    for file in (as_csv, as_json):
        assert KRR("population", str(file), "--persons", "300", *TODAY).exit_code == 0
    with as_csv.open("rb") as stream:
        from_csv = [person for _, person in read_csv(stream)]
    from_json = [json.loads(line)["identifier"] for line in as_json.read_text().splitlines()]

    assert from_csv == list(population(300, 1, NOW))
    assert from_json == [each.identifier for each in population(300, 1, NOW)]
    assert sorted(tmp_path.iterdir()) == [as_csv, as_json]


def test_standard_output_takes_csv_unless_told_otherwise() -> None:
    as_csv = KRR("population", "--persons", "3", *TODAY)
    as_json = KRR("population", "--persons", "3", *TODAY, "--json-lines")

    assert as_csv.stdout.startswith("identifier,status,reservation,")
    assert len(as_csv.stdout.splitlines()) == 4
    assert [json.loads(line)["identifier"] for line in as_json.stdout.splitlines()] == [
        line.partition(",")[0] for line in as_csv.stdout.splitlines()[1:]
    ]


@pytest.mark.parametrize(
    "wrong",
    [["people.txt"], ["people.csv", "--csv", "--json-lines"], ["--persons", "0"], ["--persons", "10000001"]],
)
def test_wrong_usage_is_exit_code_2_and_leaves_no_file(
    wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert KRR("population", *wrong).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_exit_code_1(tmp_path: Path) -> None:
    refused = KRR("population", str(tmp_path / "missing" / "people.csv"))

    assert refused.exit_code == 1
    assert refused.stderr.startswith("cannot write: ")


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    with command(0, "population", "--persons", "1000000") as running:
        assert running.process.stdout
        assert running.process.stdout.readline().startswith("identifier,")
        running.stop_reading()
        assert running.end() == (141, "")
