"""`krr stats`: numbers of persons and mailboxes."""

import typer
from krr.v1 import person_pb2, statistics_pb2
from krr.v1.admin_service_pb2_grpc import AdminServiceStub

from krr_cli.register import ADMINISTRATOR, DEFAULT_REGISTER, AsJson, Register, connected
from krr_cli.show import name, print_json, print_table, time

# It reads every person.
_COUNT_SECONDS = 120.0


def stats(register: Register = DEFAULT_REGISTER, as_json: AsJson = False) -> None:
    """Count the persons of the register: some seconds for millions.

    Where nothing else is said, of the active ones, reserved persons among them.
    """
    with connected(register, ADMINISTRATOR, timeout=_COUNT_SECONDS) as channel:
        counted = AdminServiceStub(channel).GetStatistics(statistics_pb2.GetStatisticsRequest())
    if as_json:
        print_json(counted)
        return
    typer.echo(f"counted {time(counted.counted_time)}")
    print_table(
        ["persons", "count", "of active"],
        [(what, str(count), _share(count, counted.active_count)) for what, count in _persons(counted)],
    )
    print_table(
        ["language", "persons", "of active"],
        [
            (
                name(person_pb2.Language, each.language).lower() or "not chosen",
                str(each.active_count),
                _share(each.active_count, counted.active_count),
            )
            for each in counted.languages
        ],
    )
    print_table(
        ["mailboxes at", "number", "receive public mail", "do not"],
        [
            (
                each.name,
                each.operator_organisation_number,
                str(each.active_mailbox_count),
                str(each.inactive_mailbox_count),
            )
            for each in counted.operators
        ],
    )


def _persons(counted: statistics_pb2.GetStatisticsResponse) -> list[tuple[str, int]]:
    return [
        ("active", counted.active_count),
        ("with e-mail", counted.with_email_count),
        ("with mobile", counted.with_mobile_count),
        ("with e-mail and mobile", counted.with_email_and_mobile_count),
        ("with e-mail or mobile", counted.with_contact_count),
        ("reserved, with e-mail or mobile", counted.reserved_with_contact_count),
        ("reserved, with neither", counted.reserved_without_contact_count),
        ("all contact info expired", counted.expired_count),
        ("notifiable", counted.notifiable_count),
        ("e-mail is another's too", counted.shared_email_count),
        ("mobile is another's too", counted.shared_mobile_count),
        ("deleted", counted.deleted_count),
    ]


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}" if of else ""
