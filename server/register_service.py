"""RegisterService: what public bodies read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from krr.v1 import register_service_pb2 as pb

from server import translate
from server.call import Call
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import PersonIdentifier
from server.domain.look_up import look_up
from server.domain.person import Person
from server.domain.rules import MAX_BATCH
from server.feed import Feed, Page, must_be_fresh
from server.store.feed import changed_persons
from server.store.store import Store
from server.store.transaction import Reader
from server.tokens import Tokens

Response = TypeVar("Response", pb.ListChangesResponse, pb.WatchChangesResponse)


@dataclass(frozen=True)
class RegisterService:
    """One method for each RPC of register_service.proto, in its order."""

    store: Store
    tokens: Tokens
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]
    feed: Feed

    def LookUpPersons(self, request: pb.LookUpPersonsRequest, call: Call) -> pb.LookUpPersonsResponse:
        return pb.LookUpPersonsResponse(entries=self._entries(request, call, self.store.read))

    def LookUpPersonsStream(
        self, requests: Iterator[pb.LookUpPersonsStreamRequest], call: Call
    ) -> Iterator[pb.LookUpPersonsStreamResponse]:
        for request in requests:
            entries = self._entries(request, call, self.feed.read)
            yield pb.LookUpPersonsStreamResponse(entries=entries)

    def ListChanges(self, request: pb.ListChangesRequest, call: Call) -> pb.ListChangesResponse:
        wait = translate.wait_from(request)
        after, page_size = self._start(request)
        read = self._page_reader(pb.ListChangesResponse, page_size)
        return self.feed.page(read, after, call, wait).response

    def WatchChanges(self, request: pb.WatchChangesRequest, call: Call) -> Iterator[pb.WatchChangesResponse]:
        after, page_size = self._start(request)
        read = self._page_reader(pb.WatchChangesResponse, page_size)
        return self.feed.pages(read, after, call, ("changes", page_size))

    def _entries(
        self,
        request: pb.LookUpPersonsRequest | pb.LookUpPersonsStreamRequest,
        call: Call,
        read: Callable[..., dict[PersonIdentifier, Person]],
    ) -> list[pb.LookUpEntry]:
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

        def persons_read(reader: Reader) -> dict[PersonIdentifier, Person]:
            must_be_fresh(reader, fresh)
            return reader.persons(wanted) if wanted else {}

        persons = read(persons_read, deadline=call.deadline)
        entries = {
            text: translate.refused_entry_to(text, found)
            if isinstance(found, Reason)
            else translate.entry_to(text, look_up(persons[found], purpose, now))
            for text, found in identifiers.items()
        }
        return [entries[text] for text in request.identifiers]

    def _start(self, request: pb.ListChangesRequest | pb.WatchChangesRequest) -> tuple[int, int]:
        after = self.tokens.read_cursor(request.after_cursor)
        return after, translate.page_size_from(request.page_size)

    def _page_reader(
        self, response: Callable[..., Response], page_size: int
    ) -> Callable[[Reader, int], Page[Response]]:
        def read(reader: Reader, after: int) -> Page[Response]:
            persons = changed_persons(reader, after, page_size)
            last = persons[-1].change_number if persons else after
            # One statement read the page: had there been more, it would be full.
            caught_up = len(persons) < page_size
            message = response(
                persons=[translate.person_to(person) for person in persons],
                cursor=self.tokens.cursor(last),
                caught_up=caught_up,
            )
            return Page(message, last, caught_up, empty=not persons)

        return read
