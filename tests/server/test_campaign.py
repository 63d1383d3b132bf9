"""The clean-up of shared contact info: whom it finds, whom it tells, whom it deletes, and whom it leaves."""

import threading
import time
from datetime import datetime, timedelta
from typing import Any

from krr.v1 import admin_service_pb2 as admin
from krr.v1 import campaign_pb2 as pb
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import delivery_service_pb2 as work
from krr.v1 import person_pb2, register_service_pb2
from psycopg import Connection

from server.config import Settings
from server.encoded_person import encode_person
from server.jobs.shared_contact_campaign import SharedContactCampaigns
from server.store.store import Store
from tests.conftest import Register, opened
from tests.people import DIGIPOST, request_id
from tests.server.campaigns import (
    AFTER,
    DEADLINE,
    NOW,
    PERSONS,
    SHARED,
    Campaigns,
    load,
    person,
    sharing,
    status,
    update,
)
from tests.server.database import contents
from tests.server.messages import finish_sent, lease


def test_values_on_five_persons_are_cases_and_on_four_are_none(
    register: Register, campaigns: Campaigns
) -> None:
    load(
        register,
        *sharing(4),
        # The same for whoever compares them.
        person(4, email="OFFICE@example.no"),
        *sharing(4, 5, "four@example.no"),
        *(person(number, mobile="+4791234567") for number in range(9, 14)),
        # Both kinds are counted apart.
        *(person(number, email="both@example.no", mobile="+4741234567") for number in range(14, 19)),
        person(19, status=person_pb2.PERSON_STATUS_DELETED, reservation=0),
    )
    campaigns.plan()
    found = sorted((case.contact_kind, case.person_count) for case in campaigns.cases())
    email, mobile = person_pb2.CONTACT_KIND_EMAIL, person_pb2.CONTACT_KIND_MOBILE
    assert found == sorted([(email, 5), (email, 5), (mobile, 5), (mobile, 5)])
    assert campaigns.get().person_count == 15


def test_a_preview_counts_and_does_nothing(
    register: Register, campaigns: Campaigns, database: "Connection[Any]"
) -> None:
    load(register, *sharing(6), *(person(number, mobile="+4791234567") for number in range(6, 12)))
    campaigns.plan()
    before = contents(database)

    told = campaigns.preview()

    assert contents(database) == before
    assert (told.email_notice_count, told.sms_notice_count) == (1, 1)
    assert (told.letter_count, told.deletion_count) == (12, 12)
    assert campaigns.get().previewed_deletion_count == 12
    assert campaigns.run().letter_count == 0


def test_each_is_told_once_and_nobody_is_named(
    register: Register, campaigns: Campaigns, database: "Connection[Any]"
) -> None:
    load(
        register,
        *sharing(5),
        *sharing(5, 5, "desk@example.no"),
        *(person(number, email="hall@sports.no", mobile="+4791234567") for number in range(10, 15)),
    )
    database.execute("UPDATE person SET email_shared = email IS NOT NULL, mobile_shared = mobile IS NOT NULL")
    campaigns.plan(example_no="post@example.no")
    campaigns.preview()
    campaigns.start()

    told = campaigns.run()
    assert campaigns.run().letter_count == told.letter_count == 15

    notices = {
        message.recipient: message for channel in ("sms", "email") for message in lease(register, channel)
    }
    assert {recipient: notice.case_count for recipient, notice in notices.items()} == {
        "post@example.no": 2,
        "hall@sports.no": 1,
        "+4791234567": 1,
    }
    for notice in notices.values():
        assert notice.kind == work.MESSAGE_KIND_SHARED_CONTACT_NOTICE
        assert (notice.identifier, notice.deadline_date) == ("", DEADLINE.isoformat())
        assert notice.synthetic_person
    letters = lease(register, "letter")
    assert sorted(letter.identifier for letter in letters) == sorted(PERSONS[:15])
    kinds = {letter.identifier: letter.contact_kind for letter in letters}
    assert kinds[PERSONS[0]] == person_pb2.CONTACT_KIND_EMAIL
    assert kinds[PERSONS[10]] == person_pb2.CONTACT_KIND_UNSPECIFIED


def test_who_repairs_in_time_is_out_and_the_rest_are_deleted_once(
    register: Register, campaigns: Campaigns, database: "Connection[Any]"
) -> None:
    box = person_pb2.Mailbox(operator_organisation_number=DIGIPOST, address="synthetic.person#1")
    chosen = person(0, email=SHARED, mailboxes=[box], chosen_operator_organisation_number=DIGIPOST)
    reserved = person(1, email=SHARED, reservation=person_pb2.RESERVATION_RESERVED)
    reserved.reservation_time.FromDatetime(NOW - timedelta(days=1))
    load(register, chosen, reserved, *sharing(5, 2), *sharing(3, 7, "three@example.no"))
    campaigns.begin()
    update(register, 2, email="own@example.no")
    update(register, 3, email="")
    assert campaigns.run(NOW + timedelta(days=3)).repaired_count == 2
    of_others = "SELECT identifier, status, email FROM person WHERE email = 'three@example.no' ORDER BY 1"
    others = database.execute(of_others).fetchall()

    last_day = campaigns.run(
        datetime.combine(DEADLINE, datetime.min.time(), NOW.tzinfo) + timedelta(hours=22)
    )
    assert last_day.deleted_count == 0
    done = campaigns.run(AFTER)

    assert (done.state, done.deleted_count, done.repaired_count) == (pb.CAMPAIGN_STATE_FINISHED, 5, 2)
    assert status(register, 0).status == person_pb2.PERSON_STATUS_DELETED
    assert status(register, 0).deletion_reason == person_pb2.DELETION_REASON_SHARED_CONTACT
    kept = status(register, 1)
    assert (kept.status, kept.reservation) == (
        person_pb2.PERSON_STATUS_ACTIVE,
        person_pb2.RESERVATION_RESERVED,
    )
    assert not kept.HasField("email")
    assert status(register, 2).email.value == "own@example.no"
    assert database.execute(of_others).fetchall() == others
    assert len(others) == 3
    assert database.execute("SELECT count(*) FROM delivery").fetchone() == (1,)
    page = register.as_public_body().ListChanges(register_service_pb2.ListChangesRequest(page_size=1000))
    tombstones = [each for each in page.persons if each.status == person_pb2.PERSON_STATUS_DELETED]
    assert {each.identifier for each in tombstones} == {PERSONS[number] for number in (0, 4, 5, 6)}
    history = register.as_citizen(PERSONS[4]).ListHistory(citizen.ListHistoryRequest(identifier=PERSONS[4]))
    assert history.entries[0].changed_by == citizen.CHANGED_BY_CLEAN_UP
    assert campaigns.run(AFTER) == done
    assert campaigns.events()[-1] == "FINISHED"


def test_the_last_one_left_with_a_value_is_left_alone(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5))
    campaigns.begin()
    for number in range(4):
        update(register, number, email=f"own{number}@example.no")

    done = campaigns.run(AFTER)

    assert (done.deleted_count, done.settled_count, done.repaired_count) == (0, 1, 4)
    assert status(register, 4).email.value == SHARED


def test_one_outside_the_campaign_who_shares_the_value_keeps_it_shared(
    register: Register, campaigns: Campaigns
) -> None:
    load(register, *sharing(5))
    campaigns.begin()
    for number in range(4):
        update(register, number, email=f"own{number}@example.no")
    load(register, *sharing(1, 5))

    assert campaigns.run(AFTER).deleted_count == 1
    assert status(register, 4).status == person_pb2.PERSON_STATUS_DELETED
    assert status(register, 5).email.value == SHARED


def test_who_is_exempt_is_left(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5), *sharing(5, 5, "club@example.no"))
    campaigns.begin()
    assert campaigns.exempt(identifier=PERSONS[0]) == 1
    [club] = [case for case in campaigns.cases() if case.open_count == 5]
    assert campaigns.exempt(case_id=club.case_id) == 5
    assert campaigns.exempt(identifier=PERSONS[30]) == 0

    done = campaigns.run(AFTER)

    assert (done.exempt_count, done.deleted_count) == (6, 4)
    assert status(register, 0).email.value == SHARED


def test_more_than_was_previewed_stops_the_campaign_before_anybody_is_deleted(
    register: Register, campaigns: Campaigns
) -> None:
    load(register, *sharing(6))
    campaigns.begin()
    campaigns.start(max_deletions=5)

    stopped = campaigns.run(AFTER)
    assert (stopped.state, stopped.deleted_count) == (pb.CAMPAIGN_STATE_STOPPED_AT_CAP, 0)

    assert campaigns.preview().deletion_count == 6
    campaigns.start()
    assert campaigns.run(AFTER).state == pb.CAMPAIGN_STATE_STOPPED_AT_CAP

    campaigns.start(max_deletions=6)
    assert campaigns.run(AFTER).deleted_count == 6


def test_a_paused_campaign_does_nothing(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5))
    campaigns.plan()
    campaigns.preview()
    campaigns.start()
    campaigns.staff.PauseCampaign(pb.PauseCampaignRequest(campaign_id=campaigns.id))
    paused = campaigns.run(AFTER)
    assert (paused.letter_count, paused.deleted_count) == (0, 0)
    campaigns.start()
    assert campaigns.run().letter_count == 5


def test_nobody_is_deleted_to_whom_no_letter_went(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(7))
    campaigns.plan()
    campaigns.preview()
    campaigns.start()
    campaigns.run()
    sent, refused, *_ = lease(register, "letter")
    finish_sent(register, "letter", sent)
    failed = work.MessageFailed(error_code="ADDRESS_PROTECTED")
    register.as_adapter("letter").FinishMessage(
        work.FinishMessageRequest(
            message_id=refused.message_id, lease_token=refused.lease_token, failed=failed
        )
    )

    done = campaigns.run(AFTER)

    assert (done.deleted_count, done.exempt_count) == (1, 6)
    assert "LEFT_UNTOLD" in campaigns.events()


def test_no_letter_is_written_in_the_last_week(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5))
    campaigns.plan()
    campaigns.preview()
    campaigns.start()
    assert campaigns.run(NOW + timedelta(days=24)).letter_count == 0
    assert campaigns.run(NOW + timedelta(days=23)).letter_count == 5


def test_who_takes_the_shared_value_again_in_time_is_in_again(
    register: Register, campaigns: Campaigns
) -> None:
    load(register, *sharing(5))
    campaigns.begin()
    update(register, 0, email="own@example.no")
    assert campaigns.run(NOW + timedelta(days=3)).repaired_count == 1
    update(register, 0, email=SHARED)
    assert campaigns.run(AFTER).deleted_count == 5


def test_who_repairs_between_the_judgement_and_the_deletion_is_left(
    register: Register, campaigns: Campaigns, database: "Connection[Any]"
) -> None:
    load(register, *sharing(6))
    campaigns.begin()
    campaigns.start(max_deletions=0)
    campaigns.run(AFTER)
    update(register, 0, email="own@example.no")

    campaigns.start(max_deletions=6)

    done = campaigns.run(AFTER)
    assert (done.deleted_count, done.repaired_count) == (5, 1)
    assert status(register, 0).email.value == "own@example.no"


def test_servers_that_go_on_at_once_tell_and_delete_once(
    register: Register, settings: Settings, campaigns: Campaigns, database: "Connection[Any]"
) -> None:
    load(register, *sharing(30))
    campaigns.plan()
    campaigns.preview()
    campaigns.start()
    faults: list[BaseException] = []

    def go_on(now: datetime) -> None:
        store = opened(
            lambda: Store(settings.database_url, encode_person, connections=2, require_durable=False)
        )
        try:
            job = SharedContactCampaigns(store, lambda: now)
            while job.step(time.monotonic() + 10):
                pass
        except BaseException as fault:
            faults.append(fault)
        finally:
            store.close()

    for now in (NOW, AFTER):
        threads = [threading.Thread(target=go_on, args=[now]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        campaigns.post_letters()

    assert faults == []
    done = campaigns.run(AFTER)
    assert (done.letter_count, done.notice_count, done.deleted_count) == (30, 1, 30)
    sent = "SELECT kind, count(*) FROM message GROUP BY kind ORDER BY kind"
    assert database.execute(sent).fetchall() == [
        ("SHARED_CONTACT_LETTER", 30),
        ("SHARED_CONTACT_NOTICE", 1),
    ]
    deleted = "SELECT count(*) FROM history WHERE field = 'status' AND caller_kind = 'clean-up'"
    assert database.execute(deleted).fetchone() == (30,)


def test_a_new_identifier_takes_the_place_in_the_campaign_over(
    register: Register, campaigns: Campaigns
) -> None:
    load(register, *sharing(5))
    campaigns.begin()
    campaigns.staff.ReplaceIdentifier(
        admin.ReplaceIdentifierRequest(
            request_id=request_id(), old_identifier=PERSONS[0], new_identifier=PERSONS[20]
        )
    )

    assert campaigns.run(AFTER).deleted_count == 5
    assert status(register, 20).status == person_pb2.PERSON_STATUS_DELETED
