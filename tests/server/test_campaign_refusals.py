"""Campaigns: what is refused or taken back, and what is answered again."""

from datetime import timedelta
from typing import Any

import pytest
from krr.v1 import campaign_pb2 as pb
from psycopg import Connection

from server.domain.rules import date_in_norway
from tests.conftest import Register
from tests.people import request_id
from tests.server.campaigns import (
    AFTER,
    DEADLINE,
    NOW,
    PERSONS,
    SHARED,
    Campaigns,
    load,
    reason_of,
    sharing,
    update,
)
from tests.server.messages import lease


@pytest.mark.parametrize(
    ("days", "domain", "email", "reason"),
    [
        (13, "example.no", "post@example.no", "INVALID_FIELD"),
        (30, "gmail.com", "post@example.no", "INVALID_FIELD"),
        (30, "not a domain", "post@example.no", "INVALID_FIELD"),
        (30, "example.no", "post", "INVALID_EMAIL"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    register: Register, campaigns: Campaigns, days: int, domain: str, email: str, reason: str
) -> None:
    request = pb.PlanCampaignRequest(
        request_id=request_id(),
        deadline_date=(date_in_norway(NOW) + timedelta(days=days)).isoformat(),
        organisations=[pb.OrganisationContact(domain=domain, email=email)],
    )
    assert reason_of(lambda: campaigns.staff.PlanCampaign(request)) == reason
    assert campaigns.staff.ListCampaigns(pb.ListCampaignsRequest()).campaigns == []


def test_steps_out_of_order_are_refused(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5))
    campaigns.id = 4711
    assert reason_of(campaigns.preview) == "UNKNOWN_CAMPAIGN"
    campaigns.plan()
    assert reason_of(campaigns.start) == "CAMPAIGN_STATE"
    assert reason_of(campaigns.plan) == "CAMPAIGN_STATE"
    campaigns.preview()
    campaigns.start()
    campaigns.start(max_deletions=3)
    assert campaigns.get().max_deletions == 3
    campaigns.staff.EndCampaign(pb.EndCampaignRequest(campaign_id=campaigns.id))
    assert reason_of(campaigns.preview) == "CAMPAIGN_STATE"
    assert campaigns.run(AFTER).deleted_count == 0
    campaigns.plan()


def test_a_repeated_request_gets_the_first_answer(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5))
    request = pb.PlanCampaignRequest(request_id=request_id(), deadline_date=DEADLINE.isoformat())
    first, again = (campaigns.staff.PlanCampaign(request) for _ in range(2))
    assert (first.campaign_id, again.duplicate) == (again.campaign_id, True)


def test_the_end_withdraws_what_has_not_left(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5))
    campaigns.plan()
    campaigns.preview()
    campaigns.start()
    campaigns.run()
    campaigns.staff.EndCampaign(pb.EndCampaignRequest(campaign_id=campaigns.id))
    assert lease(register, "letter") == lease(register, "email") == []


def test_who_is_exempt_gets_no_letter_that_has_not_left(register: Register, campaigns: Campaigns) -> None:
    load(register, *sharing(5))
    campaigns.plan()
    campaigns.preview()
    campaigns.start()
    campaigns.run()
    campaigns.exempt(identifier=PERSONS[0])
    assert PERSONS[0] not in {letter.identifier for letter in lease(register, "letter")}


def test_nobody_is_deleted_whose_letter_left_in_the_last_week(
    register: Register, campaigns: Campaigns, database: "Connection[Any]"
) -> None:
    load(register, *sharing(5))
    campaigns.begin()
    database.execute("UPDATE message SET sent_time = now() + interval '24 days' WHERE channel = 'LETTER'")
    assert campaigns.run(AFTER).deleted_count == 0


def test_an_exemption_holds_also_for_who_had_repaired_and_shares_again(
    register: Register, campaigns: Campaigns
) -> None:
    load(register, *sharing(5))
    campaigns.begin()
    update(register, 0, email="own@example.no")
    campaigns.run(NOW + timedelta(days=3))
    assert campaigns.exempt(identifier=PERSONS[0]) == 1
    update(register, 0, email=SHARED)
    assert campaigns.run(AFTER).deleted_count == 4


def test_after_a_stop_at_the_cap_it_is_judged_anew_who_shares(
    register: Register, campaigns: Campaigns
) -> None:
    load(register, *sharing(5))
    campaigns.begin()
    campaigns.start(max_deletions=0)
    assert campaigns.run(AFTER).state == pb.CAMPAIGN_STATE_STOPPED_AT_CAP
    for number in range(4):
        update(register, number, email=f"own{number}@example.no")
    assert campaigns.preview().deletion_count == 0

    campaigns.start()

    done = campaigns.run(AFTER)
    assert (done.state, done.deleted_count) == (pb.CAMPAIGN_STATE_FINISHED, 0)
    assert (done.repaired_count, done.settled_count) == (4, 1)
