"""Who is calling, and what each kind of caller may call.

The one place that knows. A method without a row in POLICY does not exist for anyone: the
server refuses to start.
"""

import re
from collections.abc import Callable, Iterable, Mapping

from server.domain.caller import Caller, CallerKind
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import PersonIdentifier, parse_organisation_number

_PUBLIC_BODY = frozenset({CallerKind.PUBLIC_BODY})
_CITIZEN = frozenset({CallerKind.CITIZEN})
_CITIZEN_OR_LOG_IN = frozenset({CallerKind.CITIZEN, CallerKind.LOG_IN_SERVICE})
_OPERATOR = frozenset({CallerKind.OPERATOR})
_ADAPTER = frozenset({CallerKind.ADAPTER})
_ADMINISTRATOR = frozenset({CallerKind.ADMINISTRATOR})

POLICY: Mapping[str, frozenset[CallerKind]] = {
    "krr.v1.RegisterService/LookUpPersons": _PUBLIC_BODY,
    "krr.v1.RegisterService/LookUpPersonsStream": _PUBLIC_BODY,
    "krr.v1.RegisterService/ListChanges": _PUBLIC_BODY,
    "krr.v1.RegisterService/WatchChanges": _PUBLIC_BODY,
    "krr.v1.RegisterService/ListMailboxOperators": _PUBLIC_BODY,
    "krr.v1.RegisterService/GetPrintCertificate": _PUBLIC_BODY,
    "krr.v1.CitizenService/GetPerson": _CITIZEN_OR_LOG_IN,
    "krr.v1.CitizenService/RegisterPerson": _CITIZEN_OR_LOG_IN,
    "krr.v1.CitizenService/UpdateContact": _CITIZEN,
    "krr.v1.CitizenService/ConfirmContact": _CITIZEN,
    "krr.v1.CitizenService/SendVerificationCode": _CITIZEN,
    "krr.v1.CitizenService/VerifyContact": _CITIZEN,
    "krr.v1.CitizenService/SetLanguage": _CITIZEN,
    "krr.v1.CitizenService/Reserve": _CITIZEN,
    "krr.v1.CitizenService/CancelReservation": _CITIZEN,
    "krr.v1.CitizenService/ChooseMailbox": _CITIZEN,
    "krr.v1.CitizenService/DeletePerson": _CITIZEN,
    "krr.v1.CitizenService/ListHistory": _CITIZEN,
    "krr.v1.MailboxOperatorService/MayChooseMailbox": _OPERATOR,
    "krr.v1.MailboxOperatorService/CreateMailbox": _OPERATOR,
    "krr.v1.MailboxOperatorService/ChooseMailbox": _OPERATOR,
    "krr.v1.MailboxOperatorService/CreateAndChooseMailbox": _OPERATOR,
    "krr.v1.MailboxOperatorService/UpdateMailbox": _OPERATOR,
    "krr.v1.MailboxOperatorService/DeleteMailbox": _OPERATOR,
    "krr.v1.MailboxOperatorService/PushEvents": _OPERATOR,
    "krr.v1.MailboxOperatorService/ListMailboxes": _OPERATOR,
    "krr.v1.MailboxOperatorService/WatchMailboxes": _OPERATOR,
    "krr.v1.DeliveryService/LeaseDeliveries": _ADAPTER,
    "krr.v1.DeliveryService/FinishDelivery": _ADAPTER,
    "krr.v1.DeliveryService/LeaseComparisons": _ADAPTER,
    "krr.v1.DeliveryService/FinishComparison": _ADAPTER,
    "krr.v1.DeliveryService/LeaseMessages": _ADAPTER,
    "krr.v1.DeliveryService/FinishMessage": _ADAPTER,
    "krr.v1.DeliveryService/RecordReceipt": _ADAPTER,
    "krr.v1.AdminService/LoadPersons": _ADMINISTRATOR,
    "krr.v1.AdminService/ReplaceIdentifier": _ADMINISTRATOR,
    "krr.v1.AdminService/DeletePerson": _ADMINISTRATOR,
    "krr.v1.AdminService/ListDeliveries": _ADMINISTRATOR,
    "krr.v1.AdminService/RetryDeliveries": _ADMINISTRATOR,
    "krr.v1.AdminService/ListMessages": _ADMINISTRATOR,
    "krr.v1.AdminService/RetryMessages": _ADMINISTRATOR,
    "krr.v1.AdminService/ImportPersons": _ADMINISTRATOR,
    "krr.v1.AdminService/GetImport": _ADMINISTRATOR,
    "krr.v1.AdminService/ListImportRejections": _ADMINISTRATOR,
    "krr.v1.AdminService/GetStatistics": _ADMINISTRATOR,
    "krr.v1.AdminService/AddCertificate": _ADMINISTRATOR,
    "krr.v1.AdminService/RetireCertificate": _ADMINISTRATOR,
    "krr.v1.AdminService/ListCertificates": _ADMINISTRATOR,
    "krr.v1.AdminService/RemindStaleContact": _ADMINISTRATOR,
    "krr.v1.AdminService/PlanCampaign": _ADMINISTRATOR,
    "krr.v1.AdminService/PreviewCampaign": _ADMINISTRATOR,
    "krr.v1.AdminService/StartCampaign": _ADMINISTRATOR,
    "krr.v1.AdminService/PauseCampaign": _ADMINISTRATOR,
    "krr.v1.AdminService/EndCampaign": _ADMINISTRATOR,
    "krr.v1.AdminService/ExemptFromCampaign": _ADMINISTRATOR,
    "krr.v1.AdminService/GetCampaign": _ADMINISTRATOR,
    "krr.v1.AdminService/ListCampaigns": _ADMINISTRATOR,
    "krr.v1.AdminService/ListCampaignCases": _ADMINISTRATOR,
    "krr.v1.AdminService/ListCampaignEvents": _ADMINISTRATOR,
    "krr.v1.AdminService/StartSweep": _ADMINISTRATOR,
    "krr.v1.AdminService/EndSweep": _ADMINISTRATOR,
    "krr.v1.AdminService/GetSweep": _ADMINISTRATOR,
    "krr.v1.AdminService/ListSweeps": _ADMINISTRATOR,
    "krr.v1.AdminService/ListDifferences": _ADMINISTRATOR,
}

_CREDENTIAL = re.compile(r"Development ([a-z-]{1,20})/([a-z0-9-]{1,64})")


class PolicyGap(Exception):
    """A served method has no row in POLICY, or a row no method; the text names them."""


def check_policy(served: Iterable[str]) -> None:
    """Raise PolicyGap unless POLICY names exactly the methods served."""
    gap = set(served) ^ set(POLICY)
    if gap:
        raise PolicyGap(f"server/access.py and the services differ in: {', '.join(sorted(gap))}")


def authorise(method: str, caller: Caller) -> None:
    """Pass if the caller may call the method.

    Raises Refusal: CALLER_NOT_ALLOWED.
    """
    if caller.kind not in POLICY[method]:
        raise Refusal(Reason.CALLER_NOT_ALLOWED)


def authenticate(
    authorization: str | None, *, development: bool, parse_identifier: Callable[[str], PersonIdentifier]
) -> Caller:
    """Who the credential says is calling.

    authorization: the metadata entry. "Development <kind>/<subject>", such as
        "Development public-body/991825827", is believed if development is true; there is no
        other credential yet.

    Raises Refusal: CREDENTIAL_MISSING or CREDENTIAL_REFUSED.
    """
    if not authorization:
        raise Refusal(Reason.CREDENTIAL_MISSING)
    match = _CREDENTIAL.fullmatch(authorization)
    if not (development and match):
        raise Refusal(Reason.CREDENTIAL_REFUSED)
    try:
        caller = Caller(CallerKind(match[1]), match[2])
        if caller.kind in (CallerKind.REGISTER, CallerKind.RECONCILIATION, CallerKind.CLEAN_UP):
            raise Refusal(Reason.CREDENTIAL_REFUSED)
        if caller.kind is CallerKind.CITIZEN:
            parse_identifier(caller.subject)
        elif caller.kind not in (CallerKind.ADAPTER, CallerKind.ADMINISTRATOR):
            parse_organisation_number(caller.subject)
    except (ValueError, InvalidValue):
        raise Refusal(Reason.CREDENTIAL_REFUSED) from None
    return caller
