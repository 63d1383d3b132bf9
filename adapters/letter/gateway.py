"""Letters to people, put where a print house takes them."""

import errno
import uuid
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from krr.v1 import delivery_service_pb2 as pb

from adapters.adapter import Refused, Sent, TryLater
from adapters.letter.batches import Batches, Letter
from adapters.letter.page import PAGES, pdf_of, text_of
from adapters.letter.population_register import NoAddress, PopulationRegister
from adapters.letter.settings import LetterSettings
from adapters.texts import UnknownText

GATEWAY = "PRINT_FOLDER"

# For a batch of letters to get on disk. An attempt that takes longer finds its letter there next time.
_WRITING_SECONDS = 5.0

_NORWAY = ZoneInfo("Europe/Oslo")


class PrintFolder:
    """A MessageGateway. Each letter is made once: a message that comes again is Sent as before."""

    def __init__(self, settings: LetterSettings, batches: Batches) -> None:
        self.deadline_seconds = settings.deadline_seconds + settings.batch_seconds + _WRITING_SECONDS
        self._settings = settings
        self._batches = batches
        self._population_register = PopulationRegister(settings)

    def send(self, message: pb.Message) -> Sent | TryLater | Refused:
        """See MessageGateway. Refused with ADDRESS_PROTECTED, NO_ADDRESS or EXPIRED."""
        # It names a file; the register says that it is one.
        message_id = str(uuid.UUID(message.message_id))
        place = self._batches.place_of(message_id)
        if place:
            return _sent(place)
        now = datetime.now(_NORWAY)
        if message.HasField("expires_time") and message.expires_time.ToDatetime(UTC) <= now:
            return Refused("EXPIRED")
        try:
            text = text_of(message)
        except UnknownText:
            # A newer adapter may know it.
            return TryLater("UNKNOWN_TEXT")
        if date.fromisoformat(message.deadline_date) < now.date():
            return Refused("EXPIRED")
        address = self._population_register.postal_address(message.identifier)
        if isinstance(address, NoAddress):
            return Refused(address.error_code)
        if isinstance(address, TryLater):
            return address
        pdf = pdf_of(
            text,
            address.lines,
            sender=self._settings.sender,
            return_address=self._settings.return_address,
            written=now.date(),
        )
        try:
            return _sent(self._batches.add(message_id, Letter(pdf, PAGES)))
        except OSError as fault:
            full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
            return TryLater("DISK_FULL" if full else "FOLDER_FAULT")


def _sent(place: str) -> Sent:
    return Sent(GATEWAY, place, PAGES, pb.COST_CLASS_LETTER)
