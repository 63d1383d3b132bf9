"""Keeps Digipost in step: public mail on or off for one account."""

import asyncio

from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import Done, Refused, TryLater
from adapters.digipost.client import Connection, DigipostAway, DigipostClient, DigipostRefused
from adapters.digipost.xml_body import MalformedBody, compose, parse, texts

_PUBLIC_MAILBOX_TAG = "PUBLIC_MAILBOX_TAG"


class DigipostAdapter:
    """A MailboxAdapter for Digipost. Level-triggered: it looks, changes what differs, looks again.

    So it bears repetition whatever became of an earlier attempt, and does not depend on how
    Digipost answers a tag that is added twice.
    """

    def __init__(self, client: DigipostClient, deadline_seconds: float) -> None:
        self._client = client
        self._deadline_seconds = deadline_seconds

    def deliver(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        """See MailboxAdapter; takes `deadline_seconds` at most. For threads without an event loop."""
        # An event loop for the deadline's sake: nothing else in Python interrupts a read, and
        # an answer that trickles would outlast timeouts that are counted per read.
        return asyncio.run(self._within_deadline(delivery))

    async def _within_deadline(self, delivery: pb.Delivery) -> Done | TryLater | Refused:
        try:
            async with asyncio.timeout(self._deadline_seconds), self._client.connected() as digipost:
                return await _make_it_so(digipost, delivery.identifier, delivery.receives_public_mail)
        except TimeoutError:
            self._client.forget_entry_point()
            return TryLater("DIGIPOST_TIMEOUT")
        except DigipostAway as away:
            return TryLater(away.error_code)
        except DigipostRefused as refusal:
            if refusal.error_code != "UNKNOWN_USER":
                return Refused(refusal.error_code)
            # Nobody's mail goes to an account that does not exist.
            return Refused("NO_ACCOUNT") if delivery.receives_public_mail else Done()


async def _make_it_so(digipost: Connection, identifier: str, wanted: bool) -> Done | TryLater:
    if await _receives_public_mail(digipost, identifier) == wanted:
        return Done()
    tag = compose("tag", ("public-mailbox-tag/personal-identification-number", identifier))
    await digipost.call("add_tag" if wanted else "remove_tag", tag)
    if await _receives_public_mail(digipost, identifier) == wanted:
        return Done()
    return TryLater("READ_BACK_DIFFERS")


async def _receives_public_mail(digipost: Connection, identifier: str) -> bool:
    answer = await digipost.call("get_tags", query={"personal-identification-number": identifier})
    try:
        return _PUBLIC_MAILBOX_TAG in texts(parse(answer, "tags"), "tag-type")
    except MalformedBody:
        raise DigipostAway("ANSWER_MALFORMED") from None
