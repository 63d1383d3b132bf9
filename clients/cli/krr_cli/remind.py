"""`krr remind`: ask citizens to confirm contact info that nears or passed 18 months."""

from collections import Counter
from typing import Annotated

import tenacity
import typer
from krr.v1 import delivery_service_pb2
from krr.v1 import reminder_pb2 as pb
from krr.v1.admin_service_pb2_grpc import AdminServiceStub
from krr_client import RegisterError

from krr_cli.progress_bar import progress_bar
from krr_cli.register import ADMINISTRATOR, AWAY, DEFAULT_REGISTER, AsJson, Register, connected
from krr_cli.show import name, print_json, print_table

_CALL_SECONDS = 30.0
# A register that is restarted or whose database is restarted is back by then.
_AWAY_SECONDS = 60.0

_WHY = {
    pb.NOT_REMINDED_REASON_DELETED: "deleted",
    pb.NOT_REMINDED_REASON_NO_CONTACT: "neither e-mail nor mobile",
    pb.NOT_REMINDED_REASON_FRESH: "heard of within the first step",
    pb.NOT_REMINDED_REASON_RESERVED: "stale, but reserved",
    pb.NOT_REMINDED_REASON_ALREADY_REMINDED: "stale, and reminded of it already",
}

# A paragraph is one line: what shows it folds it to the terminal.
HELP = "\n\n".join(
    (
        "Ask citizens to confirm contact info that they did not change or confirm for long.",
        "By e-mail, else by SMS, in each one's language; never who is reserved or deleted, and nobody "
        "twice for one step of one contact point until word comes from them. The steps are the "
        "register's setting, 16 and 18 months by default; of several that were passed the last counts. "
        "Who has answered (krr confirm-contact) before the message goes is not written to.",
        "The register does this by itself once a day. Cut off, it may simply be run again; so may two at "
        "once. What one of them wrote the other then counts as reminded before.",
    )
)


def remind(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count who would be reminded, and write to nobody.")
    ] = False,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    whole = pb.RemindStaleContactResponse()
    with connected(register, ADMINISTRATOR, timeout=_CALL_SECONDS) as channel:
        admin = AdminServiceStub(channel)
        batch = _next_batch(admin, pb.RemindStaleContactRequest(dry_run=dry_run))
        with progress_bar(batch.person_count, to_standard_output=False) as show:
            _add(whole, batch)
            while batch.next_page_token:
                show(whole.examined_count)
                batch = _next_batch(
                    admin, pb.RemindStaleContactRequest(dry_run=dry_run, page_token=batch.next_page_token)
                )
                _add(whole, batch)
    if as_json:
        print_json(whole)
        return
    print_table(
        ["months without word", "by", "would be reminded" if dry_run else "reminded"],
        [
            (str(each.step_months), name(delivery_service_pb2.Channel, each.channel), str(each.count))
            for each in whole.reminders
        ],
    )
    print_table(
        ["not reminded since", "persons"],
        [(_WHY.get(each.reason, ""), str(each.count)) for each in whole.not_reminded],
    )
    typer.echo(f"{whole.examined_count} persons looked at")


@tenacity.retry(
    retry=tenacity.retry_if_exception(
        lambda error: isinstance(error, RegisterError) and error.status in AWAY
    ),
    stop=tenacity.stop_after_delay(_AWAY_SECONDS),
    wait=tenacity.wait_fixed(0.5),
    reraise=True,
)
def _next_batch(
    admin: AdminServiceStub, request: pb.RemindStaleContactRequest
) -> pb.RemindStaleContactResponse:
    return admin.RemindStaleContact(request)


def _add(whole: pb.RemindStaleContactResponse, batch: pb.RemindStaleContactResponse) -> None:
    whole.examined_count += batch.examined_count
    whole.person_count += batch.person_count
    reminders = Counter({(each.step_months, each.channel): each.count for each in whole.reminders})
    reminders.update({(each.step_months, each.channel): each.count for each in batch.reminders})
    not_reminded = Counter({each.reason: each.count for each in whole.not_reminded})
    not_reminded.update({each.reason: each.count for each in batch.not_reminded})
    del whole.reminders[:], whole.not_reminded[:]
    for (months, channel), count in sorted(reminders.items()):
        whole.reminders.add(step_months=months, channel=channel, count=count)
    for reason, count in sorted(not_reminded.items()):
        whole.not_reminded.add(reason=reason, count=count)
