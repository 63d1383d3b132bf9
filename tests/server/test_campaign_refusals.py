"""Campaigns: what is refused, and what is answered again."""

from datetime import timedelta

import pytest
from krr.v1 import campaign_pb2 as pb

from server.domain.rules import date_in_norway
from tests.conftest import Register
from tests.people import request_id
from tests.server.campaigns import AFTER, DEADLINE, NOW, Campaigns, load, reason_of, sharing


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
