"""`krr campaign`: the clean-up of contact info that many persons share."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.message import Message
from krr.v1 import campaign_pb2 as pb
from krr.v1 import person_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from krr_cli.register import (
    ADMINISTRATOR,
    DEFAULT_REGISTER,
    REFUSED,
    AsJson,
    Register,
    RequestId,
    connected,
    request_id_or_new,
)
from krr_cli.show import again, name, print_json, print_table, time
from krr_cli.whole_file import whole_file

# Planning and previewing look at every person.
_CALL_SECONDS = 60.0
_PER_PAGE = 1000
# What the contract's int64 holds.
_LARGEST = 2**63 - 1

_HELP = "\n\n".join(
    (
        "Clean up e-mail addresses and mobile numbers that five or more persons share.",
        "plan fixes the cases; preview counts what would be done; start tells the organisations and sends "
        "each person a letter. Who gives an address of their own before the deadline is out. After it, "
        "whoever still shares is deleted, the mailbox choice included; a reserved person stays reserved. If "
        "more were to be deleted than was previewed, or than start was told, nobody is, and it stops.",
        "No address, number or person is ever shown here.",
    )
)

app = typer.Typer(no_args_is_help=True, help=_HELP)

Id = Annotated[
    int, typer.Argument(min=1, max=_LARGEST, metavar="CAMPAIGN", help="Its number, from plan or list.")
]


class _Column(StrEnum):
    CASE = "case"
    KIND = "kind"
    PERSONS = "persons"
    OPEN = "open"
    REPAIRED = "repaired"
    EXEMPT = "exempt"
    SETTLED = "settled"
    DELETED = "deleted"
    NOTICE = "notice"


@app.command()
def plan(
    deadline: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="The last day to give an address of one's own.")
    ],
    organisations: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Known organisations, one a line: DOMAIN,EMAIL. Each is told there of all its cases.",
        ),
    ] = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Fix which shared values it is about, and whom. Nobody is told yet."""
    request = pb.PlanCampaignRequest(
        request_id=request_id_or_new(request_id),
        deadline_date=deadline,
        organisations=_organisations_in(organisations) if organisations else (),
    )
    with _admin(register) as admin:
        answer = admin.PlanCampaign(request)
        if as_json:
            print_json(answer)
            return
        _show(admin, answer.campaign_id)


@app.command()
def preview(campaign: Id, register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """Count what it would do as things are."""
    with _admin(register) as admin:
        told = admin.PreviewCampaign(pb.PreviewCampaignRequest(campaign_id=campaign))
    if as_json:
        print_json(told)
        return
    print_table(
        ["what", "how many"],
        [
            ("notices by e-mail", str(told.email_notice_count)),
            ("notices by SMS", str(told.sms_notice_count)),
            ("letters", str(told.letter_count)),
            ("persons deleted, were the deadline over", str(told.deletion_count)),
        ],
    )
    typer.echo(f"counted in {told.took.ToTimedelta().total_seconds():.2f} s")


@app.command()
def start(
    campaign: Id,
    max_deletions: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_LARGEST,
            metavar="N",
            help="How many persons it may delete.",
            show_default="as many as were previewed, or allowed before",
        ),
    ] = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Let it run, once it was previewed; or go on after a pause or a stop at its cap."""
    request = pb.StartCampaignRequest(
        request_id=request_id_or_new(request_id), campaign_id=campaign, max_deletions=max_deletions
    )
    with _admin(register) as admin:
        answer = admin.StartCampaign(request)
    _tell(answer, f"campaign {campaign} runs; krr campaign show {campaign} tells how far it is", as_json)


@app.command()
def pause(campaign: Id, register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """Hold it up; start goes on."""
    with _admin(register) as admin:
        answer = admin.PauseCampaign(pb.PauseCampaignRequest(campaign_id=campaign))
    _tell(answer, f"campaign {campaign} is held up", as_json)


@app.command()
def end(campaign: Id, register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """End it for good; what it did stays so."""
    with _admin(register) as admin:
        answer = admin.EndCampaign(pb.EndCampaignRequest(campaign_id=campaign))
    _tell(answer, f"campaign {campaign} has ended", as_json)


@app.command()
def exempt(
    campaign: Id,
    reason: Annotated[str, typer.Option(help="Why, for the record; names nobody.")],
    case: Annotated[int | None, typer.Option(min=1, max=_LARGEST, help="All persons of this case.")] = None,
    person: Annotated[str | None, typer.Option(metavar="ID", help="This person, in all cases.")] = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Take persons out of it."""
    if (case is None) == (person is None):
        raise typer.BadParameter("either --case or --person")
    request = pb.ExemptFromCampaignRequest(
        request_id=request_id_or_new(request_id),
        campaign_id=campaign,
        reason=reason,
    )
    if case is not None:
        request.case_id = case
    if person is not None:
        request.identifier = person
    with _admin(register) as admin:
        answer = admin.ExemptFromCampaign(request)
    _tell(answer, f"{answer.exempt_count} exempt{again(answer.duplicate)}", as_json)


@app.command("list")
def list_campaigns(register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """List campaigns, newest first."""
    with _admin(register) as admin:
        found = admin.ListCampaigns(pb.ListCampaignsRequest())
    if as_json:
        print_json(found)
        return
    columns = ["campaign", "state", "deadline", "cases", "persons", "open", "repaired", "deleted", "planned"]
    print_table(
        columns,
        [
            (
                str(each.campaign_id),
                name(pb.CampaignState, each.state),
                each.deadline_date,
                str(each.case_count),
                str(each.person_count),
                str(each.open_count),
                str(each.repaired_count),
                str(each.deleted_count),
                time(each.planned_time),
            )
            for each in found.campaigns
        ],
    )


@app.command()
def show(campaign: Id, register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """Tell how far it is, and day by day what became of its persons."""
    with _admin(register) as admin:
        if as_json:
            print_json(admin.GetCampaign(pb.GetCampaignRequest(campaign_id=campaign)).campaign)
            return
        _show(admin, campaign)


@app.command()
def events(campaign: Id, register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """List all that was done in it, and by whom."""
    found = pb.ListCampaignEventsResponse()
    request = pb.ListCampaignEventsRequest(campaign_id=campaign, page_size=_PER_PAGE)
    with _admin(register) as admin:
        while True:
            page = admin.ListCampaignEvents(request)
            found.events.extend(page.events)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
    if as_json:
        print_json(found)
        return
    print_table(
        ["when", "who", "what", "count", "reason"],
        [
            (time(each.event_time), each.actor, each.what, str(each.count), each.reason)
            for each in found.events
        ],
    )


@app.command()
def report(
    campaign: Id,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the cases there.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw the days there, as SVG.")
    ] = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Report case by case: as a table, as CSV, as a plot of the days."""
    with _admin(register) as admin:
        whole = admin.GetCampaign(pb.GetCampaignRequest(campaign_id=campaign)).campaign
        cases = list(_cases(admin, campaign))
    try:
        if plot_file:
            with whole_file(plot_file) as file:
                file.write(_plot(whole))
        if csv_file:
            with whole_file(csv_file) as file:
                writer = csv.writer(file)
                writer.writerow(list(_Column))
                writer.writerows(map(_row, cases))
    except OSError as error:
        typer.echo(f"cannot write: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    if as_json:
        for case in cases:
            print_json(case)
    elif not (csv_file or plot_file):
        print_table(list(_Column), map(_row, cases))


def _tell(answer: Message, words: str, as_json: bool) -> None:
    if as_json:
        print_json(answer)
    else:
        typer.echo(words)


def _show(admin: AdminServiceStub, campaign_id: int) -> None:
    campaign = admin.GetCampaign(pb.GetCampaignRequest(campaign_id=campaign_id)).campaign
    print_table(
        ["campaign", str(campaign.campaign_id)],
        [
            ("state", name(pb.CampaignState, campaign.state)),
            ("deadline", campaign.deadline_date),
            ("cases", str(campaign.case_count)),
            ("persons", str(campaign.person_count)),
            ("  still share", str(campaign.open_count)),
            ("  repaired", str(campaign.repaired_count)),
            ("  exempt", str(campaign.exempt_count)),
            ("  last one left", str(campaign.settled_count)),
            ("  deleted", str(campaign.deleted_count)),
            ("notices written", str(campaign.notice_count)),
            ("letters written", str(campaign.letter_count)),
            ("deletions previewed", _previewed(campaign)),
            ("deletions allowed", str(campaign.max_deletions) if campaign.started_time.seconds else ""),
            ("planned", time(campaign.planned_time)),
            ("started", time(campaign.started_time)),
            ("ended", time(campaign.ended_time)),
        ],
    )
    if campaign.days:
        print_table(
            ["day", "repaired", "deleted"],
            [(day.date, str(day.repaired_count), str(day.deleted_count)) for day in campaign.days],
        )


def _previewed(campaign: pb.Campaign) -> str:
    if not campaign.HasField("previewed_time"):
        return f"never; krr campaign preview {campaign.campaign_id}"
    return f"{campaign.previewed_deletion_count} ({time(campaign.previewed_time)})"


def _cases(admin: AdminServiceStub, campaign_id: int) -> Iterator[pb.CampaignCase]:
    request = pb.ListCampaignCasesRequest(campaign_id=campaign_id, page_size=_PER_PAGE)
    while True:
        page = admin.ListCampaignCases(request)
        yield from page.cases
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _row(case: pb.CampaignCase) -> list[str]:
    return [
        str(case.case_id),
        name(person_pb2.ContactKind, case.contact_kind).lower(),
        str(case.person_count),
        str(case.open_count),
        str(case.repaired_count),
        str(case.exempt_count),
        str(case.settled_count),
        str(case.deleted_count),
        case.notice_message_id,
    ]


def _plot(campaign: pb.Campaign) -> str:
    """The persons who still share after each day, who repaired and who was deleted by then."""
    # Only here: it takes a while, and makes Python warn of every import after it.
    import pygal

    chart = pygal.StackedLine(
        fill=True,
        title=f"Campaign {campaign.campaign_id}, deadline {campaign.deadline_date}",
        x_label_rotation=45,
        # Else it would fetch a script from its maker's site.
        js=[],
    )
    dates, still, repaired, deleted = [], [], [], []
    gone_repaired = gone_deleted = 0
    for day in campaign.days:
        gone_repaired += day.repaired_count
        gone_deleted += day.deleted_count
        dates.append(day.date)
        repaired.append(gone_repaired)
        deleted.append(gone_deleted)
        still.append(campaign.person_count - gone_repaired - gone_deleted)
    chart.x_labels = dates
    chart.add("others", still)
    chart.add("repaired", repaired)
    chart.add("deleted", deleted)
    drawn: str = chart.render(is_unicode=True)
    return drawn


def _organisations_in(file: Path) -> Iterator[pb.OrganisationContact]:
    try:
        lines = list(csv.reader(file.read_text("utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{file} is not UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if len(line) != 2:
            raise typer.BadParameter(f"{file}, line {number}: DOMAIN,EMAIL")
        domain, email = (cell.strip() for cell in line)
        yield pb.OrganisationContact(domain=domain, email=email)


@contextmanager
def _admin(register: str) -> Iterator[AdminServiceStub]:
    with connected(register, ADMINISTRATOR, timeout=_CALL_SECONDS) as channel:
        yield AdminServiceStub(channel)
