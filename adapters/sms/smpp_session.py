"""One connection to a message centre, SMPP 3.4: requests and answers, both ways.

PDUs hold numbers, texts and the password: nothing here logs one, and no exception carries one.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import IntEnum
from typing import Any

import structlog
from smpplib import command, consts, ptypes, smpp
from smpplib.client import SimpleSequenceGenerator
from smpplib.exceptions import UnknownCommandError

# smpplib takes the last byte for a closing zero, which some centres leave out; and it fails on
# parameters that it knows of other PDUs only.
_AS_IT_COMES = command.Param(type=ptypes.ostr)
command.DeliverSM.params["receipted_message_id"] = _AS_IT_COMES
for _pdu in (command.DeliverSM, command.SubmitSMResp):
    _pdu.params = dict.fromkeys(consts.OPTIONAL_PARAMS, _AS_IT_COMES) | _pdu.params

_HEADER = struct.Struct(">IIII")
_LONGEST_PDU = 64 * 1024
_IS_ANSWER = 0x80000000


class _Code(IntEnum):
    """What a centre asks of us."""

    DELIVER_SM = 0x05
    UNBIND = 0x06
    ENQUIRE_LINK = 0x15


_log = structlog.get_logger()


class SessionLost(Exception):
    """The connection ended before the answer came: nobody knows what became of the request."""


class SessionOver(Exception):
    """The connection had ended: the request was not sent."""


class Session:
    """Of one event loop; run() must be running where anything is asked.

    receive: what is done with a deliver_sm; the command status to answer with.
    enquire_seconds: after so long a silence the centre is asked whether it is there; after as long
        again the session ends.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        receive: Callable[[Any], Awaitable[int]],
        enquire_seconds: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._receive = receive
        self._enquire_seconds = enquire_seconds
        self._numbers = SimpleSequenceGenerator()
        self._awaited: dict[int, asyncio.Future[Any]] = {}
        self._is_over = False
        self._heard = False

    async def run(self) -> None:
        """Read until the connection ends, from whichever side; then nothing is awaited any more."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(tasks))
                tasks.create_task(self._enquire())
        except* (OSError, EOFError, SessionLost, SessionOver):
            pass
        finally:
            self._is_over = True
            for answer in self._awaited.values():
                if not answer.done():
                    answer.set_exception(SessionLost())
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()

    async def request(self, name: str, **fields: Any) -> Any:
        """Send, and wait for the answer, whatever its status. Raises SessionOver and SessionLost."""
        if self._is_over:
            raise SessionOver
        pdu = smpp.make_pdu(name, client=self._numbers, **fields)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._awaited[pdu.sequence] = answer
        try:
            self._writer.write(pdu.generate())
            return await answer
        finally:
            del self._awaited[pdu.sequence]

    def _answer(self, name: str, sequence: int, status: int = consts.SMPP_ESME_ROK) -> None:
        pdu = smpp.make_pdu(name, client=self._numbers, status=status)
        pdu.sequence = sequence
        self._writer.write(pdu.generate())

    async def _enquire(self) -> None:
        while True:
            self._heard = False
            await asyncio.sleep(self._enquire_seconds)
            if not self._heard:
                # TimeoutError is an OSError.
                async with asyncio.timeout(self._enquire_seconds):
                    await self.request("enquire_link")

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            header = await self._reader.readexactly(_HEADER.size)
            length, code, _, sequence = _HEADER.unpack(header)
            if not _HEADER.size <= length <= _LONGEST_PDU:
                raise SessionLost
            pdu = _parsed(header + await self._reader.readexactly(length - _HEADER.size))
            self._heard = True
            if code & _IS_ANSWER:
                # One that nobody awaits any more comes too late to be of use.
                answer = self._awaited.get(sequence)
                if answer and not answer.done():
                    if pdu is None:
                        answer.set_exception(SessionLost())
                    else:
                        answer.set_result(pdu)
                continue
            match code:
                case _Code.DELIVER_SM if pdu is None:
                    # However often it came, it would not be understood.
                    self._answer("deliver_sm_resp", sequence, consts.SMPP_ESME_RX_P_APPN)
                case _Code.DELIVER_SM:
                    tasks.create_task(self._deliver(pdu))
                case _Code.ENQUIRE_LINK:
                    self._answer("enquire_link_resp", sequence)
                case _Code.UNBIND:
                    self._answer("unbind_resp", sequence)
                    raise SessionOver
                case _:
                    self._answer("generic_nack", sequence, consts.SMPP_ESME_RINVCMDID)

    async def _deliver(self, deliver_sm: Any) -> None:
        status = await self._receive(deliver_sm)
        if not self._is_over:
            self._answer("deliver_sm_resp", deliver_sm.sequence, status)


def _parsed(data: bytes) -> Any:
    """The PDU; None for one that is not understood."""
    try:
        return smpp.parse_pdu(data, client=SimpleSequenceGenerator(), allow_unknown_opt_params=True)
    # What smpplib raises of commands and parameters that it does not know, or that are cut short.
    except (UnknownCommandError, struct.error, KeyError) as error:
        _log.warning("PDU not understood", exception=type(error).__name__)
        return None
