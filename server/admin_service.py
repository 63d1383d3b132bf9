"""AdminService: what the register's own staff does."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from krr.v1 import admin_service_pb2 as pb
from krr.v1 import (
    campaign_pb2,
    certificate_pb2,
    message_record_pb2,
    person_import_pb2,
    person_pb2,
    reminder_pb2,
    statistics_pb2,
    sweep_pb2,
)

from server import campaigns, certificates, message_record, reminders, sweeps, translate
from server.call import Call
from server.domain.change import Change
from server.domain.errors import InvalidValue, Reason
from server.domain.identifiers import PersonIdentifier
from server.domain.person import DeletionReason
from server.domain.rules import MAX_BATCH
from server.loaded_person import LoadedPersons, staged_time
from server.person_import import import_id_from, import_persons, import_to, rejection_to
from server.store import deliveries, person_import
from server.store.deliveries import DeliveryRow
from server.store.person_staging import load_new
from server.store.statistics import count_all
from server.store.store import Store
from server.store.trace_parent import trace_id_of
from server.store.transaction import Answer, Transaction
from server.tokens import Tokens

_DEFAULT_PAGE = 100
_LAST = 2**63 - 1
# It reads every person, which no other call does: more than theirs.
_MOST_SECONDS_TO_COUNT = 60.0


@dataclass(frozen=True)
class AdminService:
    """One method for each RPC of admin_service.proto, in its order.

    reminder_steps: after how many months without word persons are reminded, rising.
    """

    store: Store
    tokens: Tokens
    now: Callable[[], datetime]
    parse_identifier: Callable[[str], PersonIdentifier]
    reminder_steps: Sequence[int]

    def LoadPersons(self, request: pb.LoadPersonsRequest, call: Call) -> pb.LoadPersonsResponse:
        translate.batch_size_in("persons", len(request.persons), MAX_BATCH)
        request.DiscardUnknownFields()
        now = staged_time(self.now())
        loaded_persons = self._loaded_persons()
        persons = []
        for i, each in enumerate(request.persons):
            try:
                persons.append(loaded_persons.read(i, each, now))
            except InvalidValue as invalid:
                path = f"persons[{i}]"
                invalid.field = f"{path}.{invalid.field}" if invalid.field else path
                raise
        if len({person.identifier for person in persons}) < len(persons):
            raise InvalidValue(Reason.INVALID_FIELD, "persons", "no identifier twice")

        def do(transaction: Transaction) -> Answer:
            loaded = load_new(transaction, persons)
            return Answer("LOADED", transaction.last_change_number(), loaded)

        answer = self.store.write(
            call.caller,
            do,
            deadline=call.deadline,
            request=translate.write_request(request, request.request_id),
        )
        return pb.LoadPersonsResponse(
            loaded_count=answer.affected_count,
            freshness_token=self.tokens.freshness(answer.change_number),
            duplicate=answer.duplicate,
        )

    def ReplaceIdentifier(
        self, request: pb.ReplaceIdentifierRequest, call: Call
    ) -> pb.ReplaceIdentifierResponse:
        old = translate.named_field("old_identifier", self.parse_identifier, request.old_identifier)
        new = translate.named_field("new_identifier", self.parse_identifier, request.new_identifier)
        if old == new:
            raise InvalidValue(Reason.INVALID_FIELD, "new_identifier", "another than the old one")

        def do(transaction: Transaction, now: datetime) -> Answer:
            persons = {identifier: transaction.person(identifier) for identifier in sorted((old, new))}
            moved = Change(persons[new], persons[new].take_over(persons[old]), takes_over=old)
            tombstone = Change(persons[old], persons[old].delete(DeletionReason.NEW_IDENTITY))
            number, _ = transaction.record([moved, tombstone], now)
            return Answer("CHANGED", number)

        return pb.ReplaceIdentifierResponse(answer=self._write(request, call, do))

    def DeletePerson(
        self, request: pb.AdminServiceDeletePersonRequest, call: Call
    ) -> pb.AdminServiceDeletePersonResponse:
        identifier = translate.named_field("identifier", self.parse_identifier, request.identifier)
        reason = translate.deletion_reason_from("reason", request.reason)

        def do(transaction: Transaction, now: datetime) -> Answer:
            before = transaction.person(identifier)
            [number] = transaction.record([Change(before, before.delete(reason))], now)
            return Answer("UNCHANGED" if number == before.change_number else "CHANGED", number)

        return pb.AdminServiceDeletePersonResponse(answer=self._write(request, call, do))

    def ListDeliveries(self, request: pb.ListDeliveriesRequest, call: Call) -> pb.ListDeliveriesResponse:
        page_size = translate.count_from(
            "page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE
        )
        after = self.tokens.read_page(request.page_token)
        adapter = translate.adapter_from(request.adapter)
        if request.state not in pb.DeliveryState.values():
            raise InvalidValue(Reason.INVALID_FIELD, "state", "a state of the contract")
        if request.min_failed_attempts < 0:
            raise InvalidValue(Reason.INVALID_FIELD, "min_failed_attempts", "0 or more")
        all_states = request.state == pb.DELIVERY_STATE_UNSPECIFIED
        rows = self.store.read(
            lambda reader: deliveries.list_deliveries(
                reader,
                adapter=adapter,
                refused=None if all_states else request.state == pb.DELIVERY_STATE_REFUSED,
                min_failed_attempts=request.min_failed_attempts,
                after=after or 0,
                limit=page_size,
            ),
            deadline=call.deadline,
        )
        return pb.ListDeliveriesResponse(
            deliveries=[_delivery_to(row) for row in rows],
            next_page_token=self.tokens.page(rows[-1].id) if len(rows) == page_size else "",
        )

    def RetryDeliveries(self, request: pb.RetryDeliveriesRequest, call: Call) -> pb.RetryDeliveriesResponse:
        adapter = translate.adapter_from(request.adapter)
        if bool(request.delivery_ids) == bool(adapter):
            raise InvalidValue(Reason.INVALID_FIELD, "delivery_ids", "either delivery_ids or adapter")
        if len(request.delivery_ids) > MAX_BATCH:
            raise InvalidValue(Reason.BATCH_SIZE, "delivery_ids", f"1 to {MAX_BATCH} items")
        answer = self.store.write(
            call.caller,
            lambda transaction: Answer(
                "RETRIED",
                affected_count=deliveries.retry_deliveries(transaction, request.delivery_ids, adapter),
            ),
            deadline=call.deadline,
            request=translate.write_request(request, request.request_id),
        )
        return pb.RetryDeliveriesResponse(retried_count=answer.affected_count, duplicate=answer.duplicate)

    def ListMessages(
        self, request: message_record_pb2.ListMessagesRequest, call: Call
    ) -> message_record_pb2.ListMessagesResponse:
        return message_record.list_messages(request, self.store, self.tokens, call)

    def RetryMessages(
        self, request: message_record_pb2.RetryMessagesRequest, call: Call
    ) -> message_record_pb2.RetryMessagesResponse:
        return message_record.retry_messages(request, self.store, call)

    def ImportPersons(
        self, requests: Iterator[pb.ImportPersonsRequest], call: Call
    ) -> person_import_pb2.ImportPersonsResponse:
        imported = import_persons(
            requests,
            self.store,
            call.caller,
            self._loaded_persons(),
            self.now,
        )
        return person_import_pb2.ImportPersonsResponse(**{"import": import_to(imported)})

    def GetImport(
        self, request: person_import_pb2.GetImportRequest, call: Call
    ) -> person_import_pb2.GetImportResponse:
        import_id = import_id_from(request.import_id)
        found = self.store.read(
            lambda reader: person_import.find_import(reader, import_id), deadline=call.deadline
        )
        return person_import_pb2.GetImportResponse(**{"import": import_to(found)})

    def ListImportRejections(
        self, request: person_import_pb2.ListImportRejectionsRequest, call: Call
    ) -> person_import_pb2.ListImportRejectionsResponse:
        import_id = import_id_from(request.import_id)
        page_size = translate.count_from(
            "page_size", request.page_size, most=MAX_BATCH, default=_DEFAULT_PAGE
        )
        after = self.tokens.read_page(request.page_token)
        rejections = self.store.read(
            lambda reader: person_import.list_rejections(reader, import_id, after or 0, page_size),
            deadline=call.deadline,
        )
        return person_import_pb2.ListImportRejectionsResponse(
            rejections=map(rejection_to, rejections),
            next_page_token=self.tokens.page(rejections[-1].row) if len(rejections) == page_size else "",
        )

    def GetStatistics(
        self, _request: statistics_pb2.GetStatisticsRequest, call: Call
    ) -> statistics_pb2.GetStatisticsResponse:
        now = self.now()
        counted = self.store.read_one_moment(
            lambda reader: count_all(reader, now),
            deadline=min(call.ends, time.monotonic() + _MOST_SECONDS_TO_COUNT),
        )
        return statistics_pb2.GetStatisticsResponse(
            counted_time=translate.time_to(now),
            **asdict(counted.persons),
            languages=[
                statistics_pb2.LanguageStatistics(
                    language=translate.language_to(language) if language else person_pb2.LANGUAGE_UNSPECIFIED,
                    active_count=count,
                )
                for language, count in counted.languages.items()
            ],
            operators=[
                statistics_pb2.OperatorStatistics(
                    operator_organisation_number=each.operator,
                    name=each.operator_name,
                    active_mailbox_count=each.active_count,
                    inactive_mailbox_count=each.inactive_count,
                )
                for each in counted.mailboxes
            ],
        )

    def AddCertificate(
        self, request: certificate_pb2.AddCertificateRequest, call: Call
    ) -> certificate_pb2.AddCertificateResponse:
        return certificates.add_certificate(request, self.store, call, self.now())

    def RetireCertificate(
        self, request: certificate_pb2.RetireCertificateRequest, call: Call
    ) -> certificate_pb2.RetireCertificateResponse:
        return certificates.retire_certificate(request, self.store, call, self.now())

    def ListCertificates(
        self, _request: certificate_pb2.ListCertificatesRequest, call: Call
    ) -> certificate_pb2.ListCertificatesResponse:
        return certificates.list_certificates(self.store, call, self.now())

    def StartSweep(self, request: sweep_pb2.StartSweepRequest, call: Call) -> sweep_pb2.StartSweepResponse:
        return sweeps.start_sweep(request, self.store, call, self.now())

    def EndSweep(self, request: sweep_pb2.EndSweepRequest, call: Call) -> sweep_pb2.EndSweepResponse:
        return sweeps.end_sweep(request, self.store, call, self.now())

    def GetSweep(self, request: sweep_pb2.GetSweepRequest, call: Call) -> sweep_pb2.GetSweepResponse:
        return sweeps.get_sweep(request, self.store, call)

    def ListSweeps(self, request: sweep_pb2.ListSweepsRequest, call: Call) -> sweep_pb2.ListSweepsResponse:
        return sweeps.list_sweeps(request, self.store, self.tokens, call)

    def ListDifferences(
        self, request: sweep_pb2.ListDifferencesRequest, call: Call
    ) -> sweep_pb2.ListDifferencesResponse:
        return sweeps.list_differences(request, self.store, self.tokens, call)

    def RemindStaleContact(
        self, request: reminder_pb2.RemindStaleContactRequest, call: Call
    ) -> reminder_pb2.RemindStaleContactResponse:
        return reminders.remind_stale_contact(
            request, self.store, self.tokens, call, self.now(), self.reminder_steps
        )

    def PlanCampaign(
        self, request: campaign_pb2.PlanCampaignRequest, call: Call
    ) -> campaign_pb2.PlanCampaignResponse:
        return campaigns.plan_campaign(request, self.store, call, self.now())

    def PreviewCampaign(
        self, request: campaign_pb2.PreviewCampaignRequest, call: Call
    ) -> campaign_pb2.PreviewCampaignResponse:
        return campaigns.preview_campaign(request, self.store, call, self.now())

    def StartCampaign(
        self, request: campaign_pb2.StartCampaignRequest, call: Call
    ) -> campaign_pb2.StartCampaignResponse:
        return campaigns.start_campaign(request, self.store, call, self.now())

    def PauseCampaign(
        self, request: campaign_pb2.PauseCampaignRequest, call: Call
    ) -> campaign_pb2.PauseCampaignResponse:
        return campaigns.pause_campaign(request, self.store, call, self.now())

    def EndCampaign(
        self, request: campaign_pb2.EndCampaignRequest, call: Call
    ) -> campaign_pb2.EndCampaignResponse:
        return campaigns.end_campaign(request, self.store, call, self.now())

    def ExemptFromCampaign(
        self, request: campaign_pb2.ExemptFromCampaignRequest, call: Call
    ) -> campaign_pb2.ExemptFromCampaignResponse:
        return campaigns.exempt_from_campaign(request, self.store, call, self.now(), self.parse_identifier)

    def GetCampaign(
        self, request: campaign_pb2.GetCampaignRequest, call: Call
    ) -> campaign_pb2.GetCampaignResponse:
        return campaigns.get_campaign(request, self.store, call)

    def ListCampaigns(
        self, _request: campaign_pb2.ListCampaignsRequest, call: Call
    ) -> campaign_pb2.ListCampaignsResponse:
        return campaigns.list_campaigns(self.store, call)

    def ListCampaignCases(
        self, request: campaign_pb2.ListCampaignCasesRequest, call: Call
    ) -> campaign_pb2.ListCampaignCasesResponse:
        return campaigns.list_campaign_cases(request, self.store, self.tokens, call)

    def ListCampaignEvents(
        self, request: campaign_pb2.ListCampaignEventsRequest, call: Call
    ) -> campaign_pb2.ListCampaignEventsResponse:
        return campaigns.list_campaign_events(request, self.store, self.tokens, call)

    def _write(
        self,
        request: pb.ReplaceIdentifierRequest | pb.AdminServiceDeletePersonRequest,
        call: Call,
        do: Callable[[Transaction, datetime], Answer],
    ) -> person_pb2.WriteAnswer:
        now = self.now()
        answer = self.store.write(
            call.caller,
            lambda transaction: do(transaction, now),
            deadline=call.deadline,
            request=translate.write_request(request, request.request_id),
        )
        return translate.write_answer_to(answer, self.tokens.freshness(answer.change_number))

    def _loaded_persons(self) -> LoadedPersons:
        return LoadedPersons(self.parse_identifier, self.store.operators, self.store.digest)


def _delivery_to(row: DeliveryRow) -> pb.DeliveryStatus:
    return pb.DeliveryStatus(
        delivery_id=row.id,
        adapter=row.adapter,
        state=pb.DELIVERY_STATE_REFUSED if row.refused else pb.DELIVERY_STATE_WAITING,
        change_number=row.change_number,
        failed_attempts=row.failed_attempts,
        last_error_code=row.last_error_code or "",
        created_time=translate.time_to(row.created_time),
        not_before_time=translate.time_to(row.not_before_time),
        trace_id=trace_id_of(row.trace_parent),
    )
