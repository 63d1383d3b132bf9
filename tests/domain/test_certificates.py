"""Which certificates senders may encrypt to, which counts when, and until when one does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.domain.certificates import (
    Certificate,
    CertificateContent,
    CertificateState,
    CertificateUse,
    KeyKind,
    Owner,
    Retirement,
    check_content,
    covered_until,
    owner_of,
    states_of,
    use_from,
)
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import OrganisationNumber
from tests import people

DIGIPOST, EBOKS = OrganisationNumber(people.DIGIPOST), OrganisationNumber(people.EBOKS)
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD = CertificateContent(
    der=b"",
    sha256=b"",
    key_kind=KeyKind.RSA,
    key_bits=2048,
    valid_from=START,
    valid_until=START + 10 * DAY,
    usages=None,
    serial_numbers=(),
    organisation_identifiers=(f"NTRNO-{DIGIPOST}",),
)
DAYS = st.integers(0, 12).map(lambda day: START + day * DAY)


def refusal(content: CertificateContent, now: datetime = START) -> Reason | None:
    try:
        check_content(content, DIGIPOST, now)
    except InvalidValue as invalid:
        return invalid.reason
    return None


@pytest.mark.parametrize(
    ("kind", "bits", "accepted"),
    [
        (KeyKind.RSA, 2047, False),
        (KeyKind.RSA, 2048, True),
        (KeyKind.RSA, 4096, True),
        (KeyKind.EC, 255, False),
        (KeyKind.EC, 256, True),
        (KeyKind.EC, 521, True),
        (KeyKind.OTHER, 4096, False),
    ],
)
def test_a_key_counts_by_its_kind_and_size(kind: KeyKind, bits: int, accepted: bool) -> None:
    expected = None if accepted else Reason.CERTIFICATE_KEY_TOO_WEAK
    assert refusal(replace(GOOD, key_kind=kind, key_bits=bits)) is expected


def test_a_certificate_may_be_entered_before_its_validity_and_until_its_last_second() -> None:
    second = timedelta(seconds=1)
    assert refusal(GOOD, START - 100 * DAY) is None
    assert refusal(GOOD, GOOD.valid_until) is None
    assert refusal(GOOD, GOOD.valid_until + second) is Reason.CERTIFICATE_EXPIRED


@pytest.mark.parametrize(
    ("kind", "usages", "accepted"),
    [
        (KeyKind.RSA, {"key_encipherment"}, True),
        (KeyKind.RSA, {"data_encipherment"}, True),
        (KeyKind.RSA, {"key_agreement"}, False),
        (KeyKind.RSA, set(), False),
        (KeyKind.EC, {"key_agreement"}, True),
        (KeyKind.EC, {"key_encipherment", "data_encipherment"}, False),
    ],
)
def test_a_key_usage_that_is_given_must_allow_to_encrypt(
    kind: KeyKind, usages: set[str], accepted: bool
) -> None:
    expected = None if accepted else Reason.CERTIFICATE_NOT_FOR_ENCRYPTION
    assert refusal(replace(GOOD, key_kind=kind, usages=frozenset(usages))) is expected


@pytest.mark.parametrize(
    ("serial_numbers", "identifiers", "accepted"),
    [
        ([DIGIPOST], [], True),
        ([f"NTRNO-{DIGIPOST}"], [], True),
        ([], [f"NTRNO-{DIGIPOST}"], True),
        ([DIGIPOST], [f"NTRNO-{DIGIPOST}"], True),
        # The serial number of something else, or an identifier in another register.
        (["4711"], [f"NTRNO-{DIGIPOST}"], True),
        ([DIGIPOST], [f"VATNO-{DIGIPOST}"], True),
        ([], [], False),
        ([], [DIGIPOST], False),
        ([], [f"VATNO-{DIGIPOST}"], False),
        ([], [f"NTRSE-{DIGIPOST}"], False),
        ([EBOKS], [], False),
        ([], [f"NTRNO-{EBOKS}"], False),
        ([DIGIPOST], [f"NTRNO-{EBOKS}"], False),
        ([DIGIPOST, EBOKS], [], False),
        ([f"{DIGIPOST} "], [], False),
        ([f"x{DIGIPOST}"], [], False),
    ],
)
def test_the_subject_must_name_the_owner_and_nobody_else(
    serial_numbers: list[str], identifiers: list[str], accepted: bool
) -> None:
    content = replace(GOOD, serial_numbers=tuple(serial_numbers), organisation_identifiers=tuple(identifiers))
    assert refusal(content) is (None if accepted else Reason.CERTIFICATE_OF_ANOTHER)


def test_a_certificate_is_used_at_once_unless_told_or_not_valid_yet() -> None:
    now = START + DAY
    assert use_from(GOOD, None, now) == now
    assert use_from(GOOD, START, now) == now
    assert use_from(GOOD, START + 2 * DAY, now) == START + 2 * DAY
    assert use_from(GOOD, GOOD.valid_until, now) == GOOD.valid_until
    assert use_from(GOOD, None, START - DAY) == START


@pytest.mark.parametrize("wanted", [START - timedelta(seconds=1), START + 10 * DAY + timedelta(seconds=1)])
def test_no_certificate_is_used_outside_its_validity(wanted: datetime) -> None:
    with pytest.raises(InvalidValue) as refused:
        use_from(GOOD, wanted, START)
    assert refused.value.reason is Reason.INVALID_FIELD


@st.composite
def registers(draw: st.DrawFn) -> list[Certificate]:
    """Certificates of two operators and for print."""
    found = []
    for number in range(draw(st.integers(0, 6))):
        start, begins, end = sorted(draw(DAYS) for _ in range(3))
        use, organisation = draw(
            st.sampled_from(
                [
                    (CertificateUse.MAILBOX, DIGIPOST),
                    (CertificateUse.MAILBOX, EBOKS),
                    (CertificateUse.PRINT, DIGIPOST),
                    (CertificateUse.PRINT, EBOKS),
                ]
            )
        )
        retired = Retirement(time=START, change_number=number + 100)
        found.append(
            Certificate(
                id=number,
                use=use,
                organisation_number=organisation,
                der=b"",
                sha256=b"",
                valid_from=start,
                valid_until=end,
                use_from=begins,
                added_time=START,
                added_change_number=number,
                retirement=draw(st.sampled_from([None, None, retired])),
            )
        )
    return draw(st.permutations(found))


def current_plainly(certificates: list[Certificate], owner: Owner, now: datetime) -> int | None:
    """The id of the one that counts; None where none does."""
    found = [
        (each.use_from, each.id)
        for each in certificates
        if owner_of(each) == owner
        and each.retirement is None
        and each.valid_from <= now <= each.valid_until
        and each.use_from <= now
    ]
    return max(found)[1] if found else None


@given(registers(), DAYS)
def test_each_certificate_stands_where_the_contract_says(
    certificates: list[Certificate], now: datetime
) -> None:
    states = states_of(certificates, now)

    for each in certificates:
        if each.retirement:
            expected = CertificateState.RETIRED
        elif now > each.valid_until:
            expected = CertificateState.EXPIRED
        elif now < each.use_from:
            expected = CertificateState.NEXT
        elif current_plainly(certificates, owner_of(each), now) == each.id:
            expected = CertificateState.CURRENT
        else:
            expected = CertificateState.PREVIOUS
        assert states[each.id] is expected
    assert len(states) == len(certificates)


@given(registers(), DAYS)
def test_a_current_certificate_is_found_at_every_moment_until_the_cover_ends_and_not_after(
    certificates: list[Certificate], now: datetime
) -> None:
    covered = covered_until(certificates, now)

    assert set(covered) == {owner_of(each) for each in certificates if each.retirement is None}
    for owner, end in covered.items():
        moment = now
        while moment < end:
            assert current_plainly(certificates, owner, moment) is not None
            moment += DAY / 4
        assert current_plainly(certificates, owner, end + DAY / 4) is None
