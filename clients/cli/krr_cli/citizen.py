"""What a citizen does with the own entry."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from krr.v1 import citizen_service_pb2 as pb
from krr.v1 import person_pb2
from krr.v1.citizen_service_pb2_grpc import CitizenServiceStub

from krr_cli.pages import collect_pages
from krr_cli.person import contact, mailbox, standing
from krr_cli.register import DEFAULT_REGISTER, AsJson, Register, RequestId, connected, request_id_or_new
from krr_cli.show import (
    again,
    name,
    operator_name,
    operator_number,
    print_json,
    print_table,
    print_write,
    time,
)

app = typer.Typer()

Identifier = Annotated[str, typer.Argument(metavar="ID", help="The citizen's own identifier.")]
Expected = Annotated[
    int | None,
    typer.Option(
        "--expected-change-number",
        metavar="N",
        help="Refuse if the person changed since.",
        show_default=False,
    ),
]


class Point(StrEnum):
    EMAIL = "email"
    MOBILE = "mobile"


class Language(StrEnum):
    NB = "nb"
    NN = "nn"
    EN = "en"
    SE = "se"


@app.command()
def get_person(
    identifier: Identifier,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Show the own entry, with every mailbox."""
    with _citizen(register, identifier) as service:
        answer = service.GetPerson(pb.GetPersonRequest(identifier=identifier))
    if as_json:
        print_json(answer)
        return
    person = answer.person
    print_table(
        ["identifier", "standing", "contact"], [[person.identifier, standing(person), contact(person)]]
    )
    if answer.mailboxes:
        print_table(["mailbox", "chosen", "operator's side"], [_own_mailbox(own) for own in answer.mailboxes])
    if answer.HasField("account_request"):
        asked = answer.account_request
        state = name(pb.OperatorState, asked.state)
        typer.echo(f"account asked for at {operator_name(asked.operator_organisation_number)}: {state}")
    for kind in answer.shared_contacts:
        point = name(person_pb2.ContactKind, kind).lower()
        typer.echo(f"{point}: also stands on other persons; use one that is yours alone")


@app.command()
def history(
    identifier: Identifier,
    limit: Annotated[int, typer.Option(min=1, help="How many changes at most.")] = 100,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Show what changed in the own entry, when, and who did it, newest first; values are not kept."""
    found = pb.ListHistoryResponse()

    def add_page(size: int, token: str) -> str:
        request = pb.ListHistoryRequest(identifier=identifier, page_size=size, page_token=token)
        page = service.ListHistory(request)
        found.entries.extend(page.entries)
        return page.next_page_token

    with _citizen(register, identifier) as service:
        collect_pages(add_page, lambda: limit - len(found.entries))
    if as_json:
        print_json(found)
    else:
        print_table(["when", "change", "by whom", "what"], [_history_row(entry) for entry in found.entries])


@app.command("register")
def register_person(
    identifier: Identifier,
    email: Annotated[str, typer.Option(help="E-mail address.")] = "",
    mobile: Annotated[str, typer.Option(help="Mobile number.")] = "",
    language: Annotated[Language | None, typer.Option(help="Language of messages.")] = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Enter the register, as at first log-in."""
    request = pb.RegisterPersonRequest(
        request_id=request_id_or_new(request_id),
        identifier=identifier,
        email=email,
        mobile=mobile,
        language=_language(language) if language else person_pb2.LANGUAGE_UNSPECIFIED,
    )
    with _citizen(register, identifier) as service:
        print_write(service.RegisterPerson(request).answer, as_json)


@app.command()
def update_contact(
    identifier: Identifier,
    email: Annotated[str | None, typer.Option(help='E-mail address; "" removes it.')] = None,
    mobile: Annotated[str | None, typer.Option(help='Mobile number; "" removes it.')] = None,
    expected: Expected = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Change e-mail or mobile or both; what is not named stays."""
    given = [field for field, value in (("email", email), ("mobile", mobile)) if value is not None]
    if not given:
        raise typer.BadParameter("give --email, --mobile or both")
    request = pb.UpdateContactRequest(
        request_id=request_id_or_new(request_id),
        identifier=identifier,
        update_mask=FieldMask(paths=given),
        email=email or "",
        mobile=mobile or "",
        expected_change_number=expected,
    )
    with _citizen(register, identifier) as service:
        print_write(service.UpdateContact(request).answer, as_json)


@app.command()
def confirm_contact(
    identifier: Identifier,
    expected: Expected = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Confirm that the contact points are still right."""
    request = pb.ConfirmContactRequest(
        request_id=request_id_or_new(request_id), identifier=identifier, expected_change_number=expected
    )
    with _citizen(register, identifier) as service:
        print_write(service.ConfirmContact(request).answer, as_json)


@app.command()
def send_code(
    identifier: Identifier,
    point: Annotated[Point, typer.Argument(help="Which of the two.")],
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Have a one-time code sent to the e-mail or mobile."""
    request = pb.SendVerificationCodeRequest(
        request_id=request_id_or_new(request_id), identifier=identifier, contact_kind=_contact_kind(point)
    )
    with _citizen(register, identifier) as service:
        answer = service.SendVerificationCode(request)
    if as_json:
        print_json(answer)
        return
    minutes = answer.code_lifetime.ToSeconds() // 60
    typer.echo(
        f"a code is on its way, good for {minutes} minutes; "
        f"another one after {answer.resend_after.ToSeconds()} seconds{again(answer.duplicate)}"
    )


@app.command()
def verify_contact(
    identifier: Identifier,
    point: Annotated[Point, typer.Argument(help="Which of the two.")],
    code: Annotated[str, typer.Argument(help="The six digits.")],
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Prove by a one-time code that the e-mail or mobile is one's own."""
    request = pb.VerifyContactRequest(
        request_id=request_id_or_new(request_id),
        identifier=identifier,
        contact_kind=_contact_kind(point),
        code=code,
    )
    with _citizen(register, identifier) as service:
        print_write(service.VerifyContact(request).answer, as_json)


@app.command()
def set_language(
    identifier: Identifier,
    language: Language,
    expected: Expected = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Choose the language of messages."""
    request = pb.SetLanguageRequest(
        request_id=request_id_or_new(request_id),
        identifier=identifier,
        language=_language(language),
        expected_change_number=expected,
    )
    with _citizen(register, identifier) as service:
        print_write(service.SetLanguage(request).answer, as_json)


@app.command()
def reserve(
    identifier: Identifier,
    expected: Expected = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Reserve against digital communication."""
    request = pb.ReserveRequest(
        request_id=request_id_or_new(request_id), identifier=identifier, expected_change_number=expected
    )
    with _citizen(register, identifier) as service:
        print_write(service.Reserve(request).answer, as_json)


@app.command()
def cancel_reservation(
    identifier: Identifier,
    expected: Expected = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Cancel the reservation; the mailbox chosen before is in use again."""
    request = pb.CancelReservationRequest(
        request_id=request_id_or_new(request_id), identifier=identifier, expected_change_number=expected
    )
    with _citizen(register, identifier) as service:
        print_write(service.CancelReservation(request).answer, as_json)


@app.command()
def choose_mailbox(
    identifier: Identifier,
    operator: Annotated[
        str, typer.Argument(metavar="OPERATOR", help="digipost, eboks or an organisation number.")
    ],
    open_account: Annotated[
        bool, typer.Option("--open-account", help="Where there is no mailbox: have the operator open one.")
    ] = False,
    expected: Expected = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Choose the operator that shall receive public mail."""
    request = pb.ChooseMailboxRequest(
        request_id=request_id_or_new(request_id),
        identifier=identifier,
        operator_organisation_number=operator_number(operator),
        expected_change_number=expected,
        open_account=open_account,
    )
    with _citizen(register, identifier) as service:
        print_write(service.ChooseMailbox(request).answer, as_json)


@app.command()
def delete_person(
    identifier: Identifier,
    expected: Expected = None,
    request_id: RequestId = None,
    register: Register = DEFAULT_REGISTER,
    as_json: AsJson = False,
) -> None:
    """Delete the own entry; a reservation stays."""
    request = pb.DeletePersonRequest(
        request_id=request_id_or_new(request_id), identifier=identifier, expected_change_number=expected
    )
    with _citizen(register, identifier) as service:
        print_write(service.DeletePerson(request).answer, as_json)


@contextmanager
def _citizen(register: str, identifier: str) -> Iterator[CitizenServiceStub]:
    with connected(register, f"Development citizen/{identifier}") as channel:
        yield CitizenServiceStub(channel)


def _language(language: Language) -> person_pb2.Language.ValueType:
    return person_pb2.Language.Value(f"LANGUAGE_{language.upper()}")


def _contact_kind(point: Point) -> person_pb2.ContactKind.ValueType:
    return person_pb2.ContactKind.Value(f"CONTACT_KIND_{point.name}")


def _history_row(entry: pb.HistoryEntry) -> list[str]:
    return [
        time(entry.changed_time),
        str(entry.change_number),
        name(pb.ChangedBy, entry.changed_by),
        ", ".join(entry.fields),
    ]


def _own_mailbox(own: pb.OwnMailbox) -> list[str]:
    return [mailbox(own.mailbox), "yes" if own.chosen else "", name(pb.OperatorState, own.operator_state)]
