"""Keeps Digipost in step: public mail on or off for one account, which it opens where asked."""

import time

from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import AccountState, Done, Refused, TryLater
from adapters.digipost.client import DigipostClient
from adapters.digipost.settings import DigipostSettings
from adapters.digipost.xml_body import MalformedBody, compose, parse, text, texts
from adapters.exchange import NotDone

_PUBLIC_MAILBOX_TAG = "PUBLIC_MAILBOX_TAG"
# What the register takes as a mailbox address.
_SHORTEST_ADDRESS, _LONGEST_ADDRESS = 8, 100


class DigipostAdapter:
    """A MailboxAdapter and AccountReader for Digipost.

    Level-triggered: it looks, changes what differs, looks again.
    So it bears repetition whatever became of an earlier attempt, and does not depend on how
    Digipost answers a tag that is added twice.
    """

    def __init__(self, settings: DigipostSettings) -> None:
        """Raises ValueError where the key is not RSA, OSError where it cannot be read."""
        self.deadline_seconds = settings.deadline_seconds
        self._client = DigipostClient(settings)

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """See MailboxAdapter."""
        ends = time.monotonic() + self.deadline_seconds
        if delivery.HasField("open_account"):
            try:
                return self._open_account(delivery.identifier, delivery.open_account, ends)
            except NotDone as not_done:
                return not_done.outcome
        try:
            return self._make_it_so(delivery.identifier, delivery.receives_public_mail, ends)
        except NotDone as not_done:
            if not_done.outcome != Refused("UNKNOWN_USER"):
                return not_done.outcome
            # Nobody's mail goes to an account that does not exist.
            return Refused("NO_ACCOUNT") if delivery.receives_public_mail else Done()

    def read(self, identifier: str) -> AccountState | TryLater:
        """See AccountReader. Digipost tells neither account nor address."""
        ends = time.monotonic() + self.deadline_seconds
        try:
            return AccountState(self._receives_public_mail(identifier, ends))
        except NotDone as not_done:
            if not_done.outcome == Refused("UNKNOWN_USER"):
                # Perhaps no account, perhaps one that the register may not see.
                return AccountState(receives_public_mail=False)
            return not_done.of_read

    def _make_it_so(self, identifier: str, wanted: bool, ends: float) -> Done | TryLater:
        if self._receives_public_mail(identifier, ends) == wanted:
            return Done()
        tag = compose("tag", ("public-mailbox-tag/personal-identification-number", identifier))
        self._client.call("add_tag" if wanted else "remove_tag", ends, body=tag)
        if self._receives_public_mail(identifier, ends) == wanted:
            return Done()
        return TryLater("READ_BACK_DIFFERS")

    def _open_account(self, identifier: str, wanted: pb.AccountToOpen, ends: float) -> Done:
        # Digipost creates or activates: once more gives the account that there is.
        person = compose(
            "user-information",
            ("national-identity-number", identifier),
            ("phone-number", wanted.mobile),
            ("email-address", wanted.email),
        )
        answer = self._client.call("create_or_activate_user_account", ends, body=person)
        try:
            address = text(parse(answer, "user-account"), "digipost-address")
        except MalformedBody:
            address = ""
        if not address.isprintable() or not _SHORTEST_ADDRESS <= len(address) <= _LONGEST_ADDRESS:
            raise NotDone(TryLater("ANSWER_MALFORMED"))
        return Done(address)

    def _receives_public_mail(self, identifier: str, ends: float) -> bool:
        query = {"personal-identification-number": identifier}
        answer = self._client.call("get_tags", ends, query=query)
        try:
            return _PUBLIC_MAILBOX_TAG in texts(parse(answer, "tags"), "tag-type")
        except MalformedBody:
            raise NotDone(TryLater("ANSWER_MALFORMED")) from None
