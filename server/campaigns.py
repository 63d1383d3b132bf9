"""Campaigns against shared contact info in the words of the contract, for the staff."""

import re
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta

from krr.v1 import campaign_pb2 as pb
from sqlalchemy import RowMapping

from server import translate
from server.call import Call
from server.domain.campaign import check_domain
from server.domain.contact import ContactKind, parse_email
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import PersonIdentifier
from server.domain.message import Channel
from server.domain.rules import MAX_BATCH
from server.store import campaign_report, campaigns
from server.store.store import Store
from server.store.transaction import Reader
from server.tokens import Tokens

_DEFAULT_PAGE = 100
_MOST_CAMPAIGNS = 100
_REASON = re.compile("(?!.*[0-9]{6})[^@]{1,200}")
_MOST_DELETIONS = 2**31
# They count or enter persons by the thousand.
_MOST_SECONDS = 60.0


def plan_campaign(
    request: pb.PlanCampaignRequest, store: Store, call: Call, now: datetime
) -> pb.PlanCampaignResponse:
    """Plan a campaign.

    Raises InvalidValue: INVALID_FIELD, INVALID_EMAIL, BATCH_SIZE, INVALID_REQUEST_ID; Refusal:
    CAMPAIGN_STATE, or as Store.write does.
    """
    deadline = _date_from("deadline_date", request.deadline_date)
    if len(request.organisations) > MAX_BATCH:
        raise InvalidValue(Reason.BATCH_SIZE, "organisations", f"at most {MAX_BATCH}")
    organisations: dict[str, str] = {}
    for i, each in enumerate(request.organisations):
        domain = _domain_from(f"organisations[{i}].domain", each.domain)
        if domain in organisations:
            raise InvalidValue(Reason.INVALID_FIELD, f"organisations[{i}].domain", "no domain twice")
        organisations[domain] = translate.named_field(f"organisations[{i}].email", parse_email, each.email)
    answer = store.write(
        call.caller,
        lambda transaction: campaigns.plan_campaign(
            transaction, call.caller.subject, deadline, organisations, now
        ),
        deadline=_deadline(call),
        request=translate.write_request(request, request.request_id),
    )
    return pb.PlanCampaignResponse(campaign_id=answer.change_number, duplicate=answer.duplicate)


def preview_campaign(
    request: pb.PreviewCampaignRequest, store: Store, call: Call, now: datetime
) -> pb.PreviewCampaignResponse:
    """Count what a campaign would do. Raises Refusal: UNKNOWN_CAMPAIGN, CAMPAIGN_STATE, or as Store.write."""
    began = time.monotonic()
    preview = store.write(
        call.caller,
        lambda transaction: campaigns.preview_campaign(
            transaction, call.caller.subject, request.campaign_id, now
        ),
        deadline=_deadline(call),
    )
    by_channel = [notice.channel for notice in preview.notices]
    return pb.PreviewCampaignResponse(
        email_notice_count=by_channel.count(Channel.EMAIL),
        sms_notice_count=by_channel.count(Channel.SMS),
        letter_count=preview.letters,
        deletion_count=preview.deletions,
        took=translate.duration_to(timedelta(seconds=time.monotonic() - began)),
    )


def start_campaign(
    request: pb.StartCampaignRequest, store: Store, call: Call, now: datetime
) -> pb.StartCampaignResponse:
    """Let a campaign run.

    Raises InvalidValue: INVALID_FIELD, INVALID_REQUEST_ID; Refusal: UNKNOWN_CAMPAIGN, CAMPAIGN_STATE, or as
    Store.write does.
    """
    cap = request.max_deletions if request.HasField("max_deletions") else None
    if cap is not None and not 0 <= cap < _MOST_DELETIONS:
        raise InvalidValue(Reason.INVALID_FIELD, "max_deletions", f"0 to {_MOST_DELETIONS - 1}")
    store.write(
        call.caller,
        lambda transaction: campaigns.start_campaign(
            transaction, call.caller.subject, request.campaign_id, cap, now
        ),
        deadline=call.deadline,
        request=translate.write_request(request, request.request_id),
    )
    return pb.StartCampaignResponse()


def pause_campaign(
    request: pb.PauseCampaignRequest, store: Store, call: Call, now: datetime
) -> pb.PauseCampaignResponse:
    """Hold a campaign up. Raises Refusal: UNKNOWN_CAMPAIGN, CAMPAIGN_STATE, or as Store.write does."""
    store.write(
        call.caller,
        lambda transaction: campaigns.pause_campaign(
            transaction, call.caller.subject, request.campaign_id, now
        ),
        deadline=call.deadline,
    )
    return pb.PauseCampaignResponse()


def end_campaign(
    request: pb.EndCampaignRequest, store: Store, call: Call, now: datetime
) -> pb.EndCampaignResponse:
    """End a campaign. Raises Refusal: UNKNOWN_CAMPAIGN, or as Store.write does."""
    store.write(
        call.caller,
        lambda transaction: campaigns.end_campaign(
            transaction, call.caller.subject, request.campaign_id, now
        ),
        deadline=call.deadline,
    )
    return pb.EndCampaignResponse()


def exempt_from_campaign(
    request: pb.ExemptFromCampaignRequest,
    store: Store,
    call: Call,
    now: datetime,
    parse_identifier: Callable[[str], PersonIdentifier],
) -> pb.ExemptFromCampaignResponse:
    """Take persons out of a campaign.

    Raises InvalidValue: INVALID_FIELD, INVALID_IDENTIFIER, INVALID_REQUEST_ID; Refusal: UNKNOWN_CAMPAIGN,
    CAMPAIGN_STATE, or as Store.write does.
    """
    whom: int | PersonIdentifier
    match request.WhichOneof("whom"):
        case "case_id":
            whom = request.case_id
        case "identifier":
            whom = translate.named_field("identifier", parse_identifier, request.identifier)
        case _:
            raise InvalidValue(Reason.INVALID_FIELD, "whom", "one of its fields")
    # It stands in the record for ever: neither an identity number nor an address.
    if not request.reason.isprintable() or not _REASON.fullmatch(request.reason):
        raise InvalidValue(
            Reason.INVALID_FIELD, "reason", "1 to 200 printable characters, no six digits in a row and no @"
        )
    answer = store.write(
        call.caller,
        lambda transaction: campaigns.exempt(
            transaction, call.caller.subject, request.campaign_id, whom, request.reason, now
        ),
        deadline=call.deadline,
        request=translate.write_request(request, request.request_id),
    )
    return pb.ExemptFromCampaignResponse(exempt_count=answer.affected_count, duplicate=answer.duplicate)


def get_campaign(request: pb.GetCampaignRequest, store: Store, call: Call) -> pb.GetCampaignResponse:
    """Tell how far a campaign has come. Raises Refusal: UNKNOWN_CAMPAIGN, or as Store.read does."""

    def read(reader: Reader) -> pb.Campaign:
        campaign = _campaign_to(campaign_report.find_campaign(reader, request.campaign_id))
        for day in campaign_report.list_days(reader, request.campaign_id):
            campaign.days.add(
                date=day.date.isoformat(), repaired_count=day.repaired, deleted_count=day.deleted
            )
        return campaign

    return pb.GetCampaignResponse(campaign=store.read_one_moment(read, deadline=call.deadline))


def list_campaigns(store: Store, call: Call) -> pb.ListCampaignsResponse:
    """List campaigns. Raises Refusal as Store.read does."""
    found = store.read_one_moment(
        lambda reader: campaign_report.list_campaigns(reader, _MOST_CAMPAIGNS), deadline=call.deadline
    )
    return pb.ListCampaignsResponse(campaigns=map(_campaign_to, found))


def list_campaign_cases(
    request: pb.ListCampaignCasesRequest, store: Store, tokens: Tokens, call: Call
) -> pb.ListCampaignCasesResponse:
    """List a campaign's cases.

    Raises InvalidValue: INVALID_FIELD, INVALID_TOKEN; Refusal: UNKNOWN_CAMPAIGN, or as Store.read does.
    """
    page_size = translate.count_from("page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE)
    after = tokens.read_page(request.page_token) or 0
    found = store.read(
        lambda reader: campaign_report.list_cases(reader, request.campaign_id, after=after, limit=page_size),
        deadline=call.deadline,
    )
    return pb.ListCampaignCasesResponse(
        cases=[
            pb.CampaignCase(
                case_id=row.id,
                contact_kind=translate.contact_kind_to(ContactKind(row.kind)),
                person_count=row.person_count,
                repaired_count=row.repaired,
                exempt_count=row.exempt,
                settled_count=row.settled,
                deleted_count=row.deleted,
                open_count=row.open,
                notice_message_id=str(row.notice_id or ""),
            )
            for row in found
        ],
        next_page_token=tokens.page(found[-1].id) if len(found) == page_size else "",
    )


def list_campaign_events(
    request: pb.ListCampaignEventsRequest, store: Store, tokens: Tokens, call: Call
) -> pb.ListCampaignEventsResponse:
    """List a campaign's record.

    Raises InvalidValue: INVALID_FIELD, INVALID_TOKEN; Refusal: UNKNOWN_CAMPAIGN, or as Store.read does.
    """
    page_size = translate.count_from("page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE)
    after = tokens.read_page(request.page_token) or 0
    found = store.read(
        lambda reader: campaign_report.list_events(reader, request.campaign_id, after=after, limit=page_size),
        deadline=call.deadline,
    )
    return pb.ListCampaignEventsResponse(
        events=[
            pb.CampaignEvent(
                event_time=translate.time_to(row.event_time),
                actor=row.actor,
                what=row.what,
                count=row.count,
                reason=row.reason,
            )
            for row in found
        ],
        next_page_token=tokens.page(found[-1].id) if len(found) == page_size else "",
    )


def _campaign_to(row: RowMapping) -> pb.Campaign:
    return pb.Campaign(
        campaign_id=row["id"],
        state=pb.CampaignState.Value(f"CAMPAIGN_STATE_{row['state']}"),
        deadline_date=row["deadline_date"].isoformat(),
        case_count=row["case_count"],
        person_count=row["person_count"],
        repaired_count=row["repaired_count"],
        exempt_count=row["exempt_count"],
        settled_count=row["settled_count"],
        deleted_count=row["deleted_count"],
        open_count=row["open_count"],
        notice_count=row["notice_count"],
        letter_count=row["letter_count"],
        previewed_deletion_count=row["previewed_deletion_count"] or 0,
        previewed_time=translate.time_to(row["previewed_time"]),
        max_deletions=row["max_deletions"] or 0,
        planned_time=translate.time_to(row["planned_time"]),
        started_time=translate.time_to(row["started_time"]),
        ended_time=translate.time_to(row["ended_time"]),
    )


def _date_from(field: str, text: str) -> date:
    if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise InvalidValue(Reason.INVALID_FIELD, field, "a day, such as 2027-02-21")


def _domain_from(field: str, text: str) -> str:
    """The domain in the form in which addresses have it."""
    try:
        domain = parse_email(f"x@{text}").rpartition("@")[2]
    except InvalidValue:
        raise InvalidValue(Reason.INVALID_FIELD, field, "a domain, such as firm.example") from None
    translate.named_field(field, check_domain, domain)
    return domain


def _deadline(call: Call) -> float:
    return min(call.ends, time.monotonic() + _MOST_SECONDS)
