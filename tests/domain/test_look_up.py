"""What a public body is told, by the person's state, the purpose and the moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.domain.contact import ContactKind, ContactPoint
from server.domain.identifiers import MailboxAddress, OrganisationNumber, PersonIdentifier
from server.domain.look_up import LetterRoute, LookUp, Purpose, look_up, standing_of
from server.domain.person import DeletionReason, Language, Mailbox, Person, Status
from server.domain.rules import STALE_AFTER_MONTHS, months_later
from tests import people

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OLD = datetime(2025, 5, 1, tzinfo=UTC)
EMAIL, MOBILE = ContactKind.EMAIL, ContactKind.MOBILE
DIGIPOST = OrganisationNumber(people.DIGIPOST)
MAILBOX = Mailbox(operator=DIGIPOST, address=MailboxAddress("ola.nordmann#9YDT"))
PURPOSES = list(Purpose)


def point(kind: ContactKind, updated: datetime) -> ContactPoint:
    return ContactPoint(value={EMAIL: "ola@example.com", MOBILE: "+4791234567"}[kind], updated=updated)


UNKNOWN = Person(identifier=PersonIdentifier(people.OLA))
NORMAL = replace(
    UNKNOWN,
    status=Status.ACTIVE,
    language=Language.NN,
    contacts={EMAIL: point(EMAIL, NOW), MOBILE: point(MOBILE, NOW)},
    mailboxes=(MAILBOX,),
    chosen=DIGIPOST,
)
EXPIRED = replace(NORMAL, contacts={EMAIL: point(EMAIL, OLD), MOBILE: point(MOBILE, OLD)})
HALF_EXPIRED = replace(NORMAL, contacts={EMAIL: point(EMAIL, OLD), MOBILE: point(MOBILE, NOW)})
RESERVED = NORMAL.reserve(NOW)
RESERVED_EXPIRED = EXPIRED.reserve(NOW)
SILENT = replace(NORMAL, contacts={})
WITHOUT_MAILBOX = replace(NORMAL, mailboxes=(), chosen=None)
NOT_CHOSEN = replace(NORMAL, chosen=None)
DELETED = NORMAL.delete(DeletionReason.OWN_CHOICE)
BOTH = (EMAIL, MOBILE)


def told(person: Person, purpose: Purpose, now: datetime = NOW) -> LookUp:
    is_expired = {kind: point.is_expired(now) for kind, point in person.contacts.items()}
    return look_up(standing_of(person), is_expired, purpose)


def case(
    name: str,
    person: Person,
    *,
    notifiable: bool,
    route: LetterRoute,
    notice: tuple[ContactKind, ...] = (),
    service: tuple[ContactKind, ...] = (),
) -> object:
    """notice, service: the contact points given for each purpose."""
    return pytest.param(person, notifiable, route, notice, service, id=name)


@pytest.mark.parametrize(
    ("person", "notifiable", "route", "notice", "service"),
    [
        case(
            "normal",
            NORMAL,
            notifiable=True,
            route=LetterRoute.MAILBOX_CHOSEN,
            notice=BOTH,
            service=BOTH,
        ),
        case(
            "expired",
            EXPIRED,
            notifiable=False,
            route=LetterRoute.NOT_NOTIFIABLE,
            notice=(),
            service=BOTH,
        ),
        case(
            "one expired",
            HALF_EXPIRED,
            notifiable=True,
            route=LetterRoute.MAILBOX_CHOSEN,
            notice=(MOBILE,),
            service=BOTH,
        ),
        case("reserved", RESERVED, notifiable=False, route=LetterRoute.RESERVED, notice=BOTH, service=BOTH),
        case(
            "reserved, expired",
            RESERVED_EXPIRED,
            notifiable=False,
            route=LetterRoute.RESERVED,
            notice=(),
            service=BOTH,
        ),
        case("no contact", SILENT, notifiable=False, route=LetterRoute.NOT_NOTIFIABLE),
        case(
            "no mailbox",
            WITHOUT_MAILBOX,
            notifiable=True,
            route=LetterRoute.NO_MAILBOX,
            notice=BOTH,
            service=BOTH,
        ),
        case(
            "mailbox not chosen",
            NOT_CHOSEN,
            notifiable=True,
            route=LetterRoute.NO_MAILBOX,
            notice=BOTH,
            service=BOTH,
        ),
        case("deleted", DELETED, notifiable=False, route=LetterRoute.DELETED),
        case("unknown", UNKNOWN, notifiable=False, route=LetterRoute.NOT_REGISTERED),
    ],
)
def test_a_look_up_tells_what_the_state_allows(
    person: Person,
    notifiable: bool,
    route: LetterRoute,
    notice: tuple[ContactKind, ...],
    service: tuple[ContactKind, ...],
) -> None:
    given = {Purpose.NOTICE: notice, Purpose.SERVICE_MESSAGE: service}
    for purpose in PURPOSES:
        answer = told(person, purpose)
        assert answer.notifiable is notifiable
        assert answer.letter_route is route
        assert tuple(kind for kind in person.contacts if kind not in answer.left_out) == given[purpose]


@pytest.mark.parametrize(
    ("person", "expired"),
    [
        (NORMAL, ()),
        (HALF_EXPIRED, (EMAIL,)),
        (EXPIRED, BOTH),
        (RESERVED_EXPIRED, BOTH),
        (SILENT, ()),
        (DELETED, ()),
        (UNKNOWN, ()),
    ],
)
@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_look_up_names_what_has_expired_whether_it_is_given_or_not(
    person: Person, expired: tuple[ContactKind, ...], purpose: Purpose
) -> None:
    assert told(person, purpose).expired == expired


def test_a_service_message_may_use_every_value_as_it_stands() -> None:
    assert told(EXPIRED, Purpose.SERVICE_MESSAGE).left_out == ()


def test_the_purpose_changes_the_contact_points_given_and_nothing_else() -> None:
    for person in (NORMAL, EXPIRED, HALF_EXPIRED, RESERVED_EXPIRED, SILENT, DELETED, UNKNOWN):
        notice, service = (replace(told(person, purpose), left_out=()) for purpose in PURPOSES)
        assert notice == service


def test_a_person_becomes_unnotifiable_by_the_clock_alone_just_after_eighteen_months() -> None:
    last_moment = months_later(NOW, STALE_AFTER_MONTHS)
    assert told(NORMAL, Purpose.NOTICE, last_moment).notifiable
    after = told(NORMAL, Purpose.NOTICE, last_moment + timedelta(microseconds=1))
    assert (after.notifiable, after.letter_route) == (False, LetterRoute.NOT_NOTIFIABLE)
    assert after.left_out == BOTH
