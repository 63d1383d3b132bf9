"""RegisterService: what public bodies read."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from krr.v1 import register_service_pb2 as pb

from server import translate
from server.call import Call
from server.domain.errors import InvalidValue, Reason, Refusal
from server.domain.identifiers import PersonIdentifier
from server.domain.look_up import look_up
from server.domain.person import Person
from server.domain.rules import MAX_BATCH
from server.store.store import Store
from server.store.transaction import Reader
from server.tokens import Tokens


@dataclass(frozen=True)
class RegisterService:
    """One method for each RPC of register_service.proto, in its order."""

    store: Store
    tokens: Tokens
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]

    def LookUpPersons(self, request: pb.LookUpPersonsRequest, call: Call) -> pb.LookUpPersonsResponse:
        translate.batch_size_in("identifiers", len(request.identifiers), MAX_BATCH)
        purpose = translate.purpose_from(request.purpose)
        fresh = self.tokens.read_freshness(request.at_least_as_fresh)
        now = self.now()
        identifiers: dict[str, PersonIdentifier | Reason] = {}
        for text in request.identifiers:
            try:
                identifiers[text] = self.parse_identifier(text)
            except InvalidValue as invalid:
                identifiers[text] = invalid.reason
        wanted = [each for each in identifiers.values() if not isinstance(each, Reason)]

        def read(reader: Reader) -> dict[PersonIdentifier, Person]:
            must_be_fresh(reader, fresh)
            return reader.persons(wanted) if wanted else {}

        persons = self.store.read(read, deadline=call.deadline)
        entries = {
            text: translate.refused_entry_to(text, found)
            if isinstance(found, Reason)
            else translate.entry_to(text, look_up(persons[found], purpose, now))
            for text, found in identifiers.items()
        }
        return pb.LookUpPersonsResponse(entries=[entries[text] for text in request.identifiers])

    def ListChanges(self, request: pb.ListChangesRequest, call: Call) -> pb.ListChangesResponse:
        after = self.tokens.read_cursor(request.after_cursor)
        page_size = translate.count_from("page_size", request.page_size, most=MAX_BATCH, default=MAX_BATCH)

        def read(reader: Reader) -> list[Person]:
            must_be_fresh(reader, after)
            return reader.changes(after, page_size)

        persons = self.store.read(read, deadline=call.deadline)
        return pb.ListChangesResponse(
            persons=[translate.person_to(person) for person in persons],
            cursor=self.tokens.cursor(persons[-1].change_number if persons else after),
            # One statement read the page: had there been more, it would be full.
            caught_up=len(persons) < page_size,
        )


def must_be_fresh(reader: Reader, change_number: int) -> None:
    """Pass if the register has reached the change number.

    Raises Refusal: AHEAD_OF_REGISTER, where the token that held it is from a future that
    this register has not seen.
    """
    if change_number and change_number > reader.last_change_number():
        raise Refusal(Reason.AHEAD_OF_REGISTER)
