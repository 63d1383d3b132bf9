"""RegisterService: what public bodies read. Answers are put together from stored bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from krr.v1 import certificate_pb2
from krr.v1 import register_service_pb2 as pb

from server import certificates, encoded_person, translate
from server.call import Call
from server.domain.errors import InvalidValue
from server.domain.identifiers import PersonIdentifier
from server.domain.look_up import Purpose
from server.domain.rules import MAX_BATCH
from server.feed import Feed, Page, must_be_fresh
from server.store.encoded_reads import EncodedReader
from server.store.store import Store
from server.tokens import Tokens


@dataclass(frozen=True)
class RegisterService:
    """One method for each RPC of register_service.proto, in its order.

    parser_of_today: makes what reads identifiers; asked once for a call's thousand.
    feed: reads with Store.read_encoded.
    """

    store: Store
    tokens: Tokens
    now: Callable[[], datetime]
    parser_of_today: Callable[[], Callable[[str], PersonIdentifier]]
    feed: Feed[EncodedReader]

    def LookUpPersons(self, request: pb.LookUpPersonsRequest, call: Call) -> bytes:
        return self._entries(request, call, self.store.read_encoded)

    def LookUpPersonsStream(
        self, requests: Iterator[pb.LookUpPersonsStreamRequest], call: Call
    ) -> Iterator[bytes]:
        for request in requests:
            yield self._entries(request, call, self.feed.read)

    def ListChanges(self, request: pb.ListChangesRequest, call: Call) -> bytes:
        wait = translate.wait_from(request)
        after, page_size = self._start(request)
        return self.feed.page(self._page_reader(page_size), after, call, wait).response

    def WatchChanges(self, request: pb.WatchChangesRequest, call: Call) -> Iterator[bytes]:
        after, page_size = self._start(request)
        return self.feed.pages(self._page_reader(page_size), after, call, ("changes", page_size))

    def ListMailboxOperators(
        self, _request: certificate_pb2.ListMailboxOperatorsRequest, call: Call
    ) -> certificate_pb2.ListMailboxOperatorsResponse:
        return certificates.list_mailbox_operators(self.store, call, self.now())

    def GetPrintCertificate(
        self, _request: certificate_pb2.GetPrintCertificateRequest, call: Call
    ) -> certificate_pb2.GetPrintCertificateResponse:
        return certificates.get_print_certificate(self.store, call, self.now())

    def _entries(
        self,
        request: pb.LookUpPersonsRequest | pb.LookUpPersonsStreamRequest,
        call: Call,
        read: Callable[..., list[bytes]],
    ) -> bytes:
        """The entries of either response."""
        translate.batch_size_in("identifiers", len(request.identifiers), MAX_BATCH)
        for_notices = translate.purpose_from(request.purpose) is Purpose.NOTICE
        fresh = self.tokens.read_freshness(request.at_least_as_fresh)
        now = encoded_person.microseconds(self.now())
        parse_identifier = self.parser_of_today()
        identifiers: list[PersonIdentifier] = []
        refused: dict[int, bytes] = {}
        for position, text in enumerate(request.identifiers):
            try:
                identifiers.append(parse_identifier(text))
            except InvalidValue as invalid:
                refused[position] = encoded_person.refused_entry(text, invalid.reason)

        def persons_read(reader: EncodedReader) -> list[bytes]:
            must_be_fresh(reader, fresh)
            return reader.persons(identifiers) if identifiers else []

        persons = read(persons_read, deadline=call.deadline)
        found = zip(identifiers, persons, strict=True)
        entries = encoded_person.look_up_entries(found, for_notices=for_notices, now=now)
        for position, entry in refused.items():
            entries.insert(position, entry)
        return b"".join(entries)

    def _start(self, request: pb.ListChangesRequest | pb.WatchChangesRequest) -> tuple[int, int]:
        after = self.tokens.read_cursor(request.after_cursor)
        return after, translate.page_size_from(request.page_size)

    def _page_reader(self, page_size: int) -> Callable[[EncodedReader, int], Page[bytes]]:
        def read(reader: EncodedReader, after: int) -> Page[bytes]:
            persons, last, caught_up = reader.changed(after, page_size)
            # Of either response: both have the same fields.
            end = pb.ListChangesResponse(cursor=self.tokens.cursor(last), caught_up=caught_up)
            response = encoded_person.changes(persons) + end.SerializeToString()
            return Page(response, last, caught_up, empty=last == after)

        return read
