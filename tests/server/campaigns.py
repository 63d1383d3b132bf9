"""What the tests of campaigns share: the staff's calls, the register's job, persons who share."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from krr.v1 import admin_service_pb2 as admin
from krr.v1 import campaign_pb2 as pb
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import person_pb2
from krr_client import RegisterError
from sqlalchemy import text

from server.domain.rules import date_in_norway
from server.jobs.shared_contact_campaign import SharedContactCampaigns
from server.store.store import Store
from tests.conftest import Register
from tests.people import request_id, synthetic_identifiers
from tests.server.messages import finish_sent, lease

NOW = datetime.now(UTC)
DEADLINE = date_in_norway(NOW) + timedelta(days=30)
AFTER = NOW + timedelta(days=31)
SHARED = "office@example.no"
PERSONS = [next_person for _, next_person in zip(range(40), synthetic_identifiers(), strict=False)]


class Campaigns:
    """The register's job, at a moment of the test's choice, and the staff's calls."""

    def __init__(self, register: Register, store: Store) -> None:
        self.register = register
        self.staff = register.as_administrator()
        self.now = NOW
        self._store = store
        self._job = SharedContactCampaigns(store, lambda: self.now)
        self.id = 0

    def plan(self, **organisations: str) -> None:
        self._wait_for_flags()
        request = pb.PlanCampaignRequest(request_id=request_id(), deadline_date=DEADLINE.isoformat())
        for domain, email in organisations.items():
            request.organisations.add(domain=domain.replace("_", "."), email=email)
        self.id = self.staff.PlanCampaign(request).campaign_id

    def _wait_for_flags(self) -> None:
        """Until it is counted who shares what with whom, as it is long before a campaign."""
        waiting = text("SELECT count(*) FROM shared_recount")
        ends = time.monotonic() + 20
        while self._store.read(lambda reader: reader.connection.scalar(waiting), deadline=ends):
            time.sleep(0.05)

    def preview(self) -> pb.PreviewCampaignResponse:
        return self.staff.PreviewCampaign(pb.PreviewCampaignRequest(campaign_id=self.id))

    def start(self, **other: Any) -> None:
        self.staff.StartCampaign(
            pb.StartCampaignRequest(request_id=request_id(), campaign_id=self.id, **other)
        )

    def run(self, now: datetime = NOW) -> pb.Campaign:
        """Do what there is to do at that moment."""
        self.now = now
        while self._job.step(time.monotonic() + 10):
            pass
        return self.get()

    def begin(self) -> pb.Campaign:
        """Plan, preview, start, and tell everybody."""
        self.plan()
        self.preview()
        self.start()
        self.run()
        self.post_letters()
        return self.get()

    def post_letters(self) -> None:
        """Have the letters that are due taken by the print house."""
        while letters := lease(self.register, "letter"):
            for letter in letters:
                finish_sent(self.register, "letter", letter)

    def get(self) -> pb.Campaign:
        return self.staff.GetCampaign(pb.GetCampaignRequest(campaign_id=self.id)).campaign

    def cases(self) -> list[pb.CampaignCase]:
        return list(self.staff.ListCampaignCases(pb.ListCampaignCasesRequest(campaign_id=self.id)).cases)

    def events(self) -> list[str]:
        listed = self.staff.ListCampaignEvents(pb.ListCampaignEventsRequest(campaign_id=self.id))
        return [event.what for event in listed.events]

    def exempt(self, **whom: Any) -> int:
        request = pb.ExemptFromCampaignRequest(
            request_id=request_id(), campaign_id=self.id, reason="a family that agreed to it", **whom
        )
        return self.staff.ExemptFromCampaign(request).exempt_count


def load(register: Register, *persons: admin.PersonToLoad) -> None:
    register.as_administrator().LoadPersons(
        admin.LoadPersonsRequest(request_id=request_id(), persons=persons)
    )


def person(number: int, *, email: str = "", mobile: str = "", **other: Any) -> admin.PersonToLoad:
    loaded = admin.PersonToLoad(
        **{
            "identifier": PERSONS[number],
            "status": person_pb2.PERSON_STATUS_ACTIVE,
            "reservation": person_pb2.RESERVATION_NOT_RESERVED,
            **other,
        }
    )
    for point, value in ((loaded.email, email), (loaded.mobile, mobile)):
        if value:
            point.value = value
            point.updated_time.FromDatetime(NOW - timedelta(days=30))
    return loaded


def sharing(count: int, first: int = 0, email: str = SHARED) -> list[admin.PersonToLoad]:
    return [person(number, email=email) for number in range(first, first + count)]


def update(register: Register, number: int, **values: str) -> None:
    request = citizen.UpdateContactRequest(request_id=request_id(), identifier=PERSONS[number], **values)  # type: ignore[arg-type]  # by name
    request.update_mask.paths.extend(values)
    register.as_citizen(PERSONS[number]).UpdateContact(request)


def status(register: Register, number: int) -> person_pb2.Person:
    request = citizen.GetPersonRequest(identifier=PERSONS[number])
    return register.as_citizen(PERSONS[number]).GetPerson(request).person


def reason_of(call: Any) -> str:
    with pytest.raises(RegisterError) as refused:
        call()
    return refused.value.reason or ""
