"""Those who write to the register at random, and repeat each request until it is answered."""

import random
import time
from typing import Any, NamedTuple

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from krr.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    citizen_service_pb2,
    citizen_service_pb2_grpc,
    mailbox_operator_service_pb2,
    mailbox_operator_service_pb2_grpc,
    person_pb2,
)
from krr_client import RegisterError
from krr_client.cuts import is_cut

from tests.e2e.episode import Episode, Violation, credential, open_channel
from tests.people import DIGIPOST, EBOKS, PUBLIC_BODY, request_id

SECONDS_TO_AN_ANSWER = 60
_LOADED_AT_ONCE = 3


class _Verb(NamedTuple):
    stub: Any
    method: str
    request: Any
    caller: str
    weight: float


_Citizen = citizen_service_pb2_grpc.CitizenServiceStub
_Operator = mailbox_operator_service_pb2_grpc.MailboxOperatorServiceStub
_Administrator = admin_service_pb2_grpc.AdminServiceStub
_LOG_IN, _AT_DIGIPOST, _AT_EBOKS = (
    f"log-in-service/{PUBLIC_BODY}",
    f"operator/{DIGIPOST}",
    f"operator/{EBOKS}",
)
_STAFF = "administrator/test"
# Seldom what makes other verbs impossible.
_VERBS = (
    _Verb(_Citizen, "RegisterPerson", citizen_service_pb2.RegisterPersonRequest, _LOG_IN, 6),
    _Verb(_Citizen, "UpdateContact", citizen_service_pb2.UpdateContactRequest, "citizen/{}", 6),
    _Verb(_Citizen, "ConfirmContact", citizen_service_pb2.ConfirmContactRequest, "citizen/{}", 2),
    _Verb(_Citizen, "SetLanguage", citizen_service_pb2.SetLanguageRequest, "citizen/{}", 2),
    _Verb(_Citizen, "Reserve", citizen_service_pb2.ReserveRequest, "citizen/{}", 1),
    _Verb(_Citizen, "CancelReservation", citizen_service_pb2.CancelReservationRequest, "citizen/{}", 2),
    _Verb(_Citizen, "ChooseMailbox", citizen_service_pb2.ChooseMailboxRequest, "citizen/{}", 2),
    _Verb(_Citizen, "DeletePerson", citizen_service_pb2.DeletePersonRequest, "citizen/{}", 2),
    *(
        _Verb(_Operator, f"{verb}Mailbox", getattr(mailbox_operator_service_pb2, request), operator, weight)
        for operator in (_AT_DIGIPOST, _AT_EBOKS)
        for verb, request, weight in (
            ("CreateAndChoose", "CreateAndChooseMailboxRequest", 2.0),
            ("Delete", "DeleteMailboxRequest", 0.5),
        )
    ),
    _Verb(_Administrator, "LoadPersons", admin_service_pb2.LoadPersonsRequest, _STAFF, 0.5),
    _Verb(_Administrator, "DeletePerson", admin_service_pb2.AdminServiceDeletePersonRequest, _STAFF, 1),
    _Verb(_Administrator, "ReplaceIdentifier", admin_service_pb2.ReplaceIdentifierRequest, _STAFF, 1),
)
_WEIGHTS = [verb.weight for verb in _VERBS]
_EXPECTED_REFUSALS = ("PERSON_NOT_FOUND", "ALREADY_REGISTERED", "RESERVED", "NO_MAILBOX", "CONTACT_MISSING")
_DELETION_REASONS = [each for each in person_pb2.DeletionReason.values() if each]
_LANGUAGES = [each for each in person_pb2.Language.values() if each]


def write(episode: Episode, chance: random.Random) -> None:
    """Write until the episode says to stop.

    Raises Violation where a write is refused for no good reason, or never answered.
    """
    with open_channel(episode.register) as channel:
        while not episode.stop.is_set():
            [verb] = chance.choices(_VERBS, _WEIGHTS)
            index = chance.randrange(len(episode.persons))
            request = _request(verb, episode, index, chance)
            caller = verb.caller.format(episode.persons[index])
            response = _answered(episode, getattr(verb.stub(channel), verb.method), request, caller)
            if response is None:
                episode.count("refused writes")
            else:
                episode.count("acknowledged writes")
                if verb.method == "LoadPersons":
                    episode.count("loads by the administrator")
                episode.know(_told(request, response))


def _request(verb: _Verb, episode: Episode, index: int, chance: random.Random) -> Any:
    identifier = episode.persons[index]
    fields = verb.request.DESCRIPTOR.fields_by_name
    values = {
        "request_id": request_id(),
        "event_id": request_id(),
        "identifier": identifier,
        "old_identifier": identifier,
        "new_identifier": episode.persons[index - 1],
        # No two persons share a value: the register would mark it by changes of its own.
        "email": f"watched-{index}-{chance.randrange(1000)}@example.com",
        "mobile": f"+479{index:03}{chance.randrange(10_000):04}",
        "update_mask": FieldMask(paths=chance.choice((["email"], ["mobile"], ["email", "mobile"]))),
        "language": chance.choice(_LANGUAGES),
        "reason": chance.choice(_DELETION_REASONS),
        "address": f"synthetic.person#{index}",
        "operator_organisation_number": chance.choice((DIGIPOST, EBOKS)),
    }
    if "persons" in fields:
        values["persons"] = newcomers(episode, _LOADED_AT_ONCE)
    return verb.request(**{name: value for name, value in values.items() if name in fields})


def newcomers(episode: Episode, count: int) -> list[admin_service_pb2.PersonToLoad]:
    """So many who were never in the register, to be loaded; one in five is a tombstone."""
    now = Timestamp()
    now.GetCurrentTime()
    now.nanos = 0
    persons = []
    for number, identifier in (episode.newcomer() for _ in range(count)):
        person = admin_service_pb2.PersonToLoad(
            identifier=identifier, status=person_pb2.PERSON_STATUS_DELETED
        )
        if number % 5:
            person.status = person_pb2.PERSON_STATUS_ACTIVE
            person.reservation = person_pb2.RESERVATION_NOT_RESERVED
            person.email.value = f"newcomer-{number}@example.com"
            person.email.updated_time.CopyFrom(now)
        persons.append(person)
    return persons


def _answered(episode: Episode, call: Any, request: Any, caller: str) -> Any:
    """The response; None where the request was refused for a good reason."""
    ends = time.monotonic() + SECONDS_TO_AN_ANSWER
    while time.monotonic() < ends:
        try:
            return call(request, metadata=credential(caller), timeout=5)
        except grpc.RpcError as refused:
            error = RegisterError.of(refused)
        if error.reason in _EXPECTED_REFUSALS:
            return None
        if not is_cut(error) and error.reason != "CONFLICT":
            raise Violation(f"{type(request).__name__}: {error}")
        episode.count("repeated writes")
        time.sleep(0.02)
    raise Violation(f"{type(request).__name__}: not answered within {SECONDS_TO_AN_ANSWER} s")


def _told(request: Any, response: Any) -> dict[str, int]:
    """What the answer says of whom: the change number of each person, at least."""
    if isinstance(request, admin_service_pb2.LoadPersonsRequest):
        return {person.identifier: 1 for person in request.persons}
    if isinstance(request, admin_service_pb2.ReplaceIdentifierRequest):
        return {request.new_identifier: response.answer.change_number}
    return {request.identifier: response.answer.change_number}
