"""Valid requests about campaigns: see valid_requests.py."""

from datetime import UTC, datetime, timedelta
from typing import Any

from krr.v1 import campaign_pb2 as pb

from server.domain.rules import date_in_norway
from tests.people import OLA, request_id
from tests.server.rpcs import Rpcs


def valid_campaign_requests(rpcs: Rpcs, administrator: str) -> dict[str, tuple[str, Any]]:
    """Plan, preview and start a campaign; a caller and a request for each RPC."""
    deadline = (date_in_norway(datetime.now(UTC)) + timedelta(days=30)).isoformat()
    organisation = pb.OrganisationContact(domain="example.no", email="post@example.no")

    def call(name: str, request: Any) -> Any:
        return rpcs.call(f"AdminService/{name}", request, administrator).response

    # Repeated, since there is only one at a time.
    plan = pb.PlanCampaignRequest(
        request_id=request_id(), deadline_date=deadline, organisations=[organisation]
    )
    number = call("PlanCampaign", plan).campaign_id
    call("PreviewCampaign", pb.PreviewCampaignRequest(campaign_id=number))
    call("StartCampaign", pb.StartCampaignRequest(request_id=request_id(), campaign_id=number))
    return {
        f"AdminService/{name}": (administrator, request)
        for name, request in {
            "PlanCampaign": plan,
            "PreviewCampaign": pb.PreviewCampaignRequest(campaign_id=number),
            "StartCampaign": pb.StartCampaignRequest(
                request_id=request_id(), campaign_id=number, max_deletions=10
            ),
            "PauseCampaign": pb.PauseCampaignRequest(campaign_id=number),
            "EndCampaign": pb.EndCampaignRequest(campaign_id=number),
            "ExemptFromCampaign": pb.ExemptFromCampaignRequest(
                request_id=request_id(), campaign_id=number, identifier=OLA, reason="a family"
            ),
            "GetCampaign": pb.GetCampaignRequest(campaign_id=number),
            "ListCampaigns": pb.ListCampaignsRequest(),
            "ListCampaignCases": pb.ListCampaignCasesRequest(campaign_id=number, page_size=10),
            "ListCampaignEvents": pb.ListCampaignEventsRequest(campaign_id=number, page_size=10),
        }.items()
    }
