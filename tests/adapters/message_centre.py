"""A message centre that nobody here wrote (smpp34), and a line to it that can be cut."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import smpp34

from tests.adapters.fake_register import eventually

SYSTEM_ID, PASSWORD = "krr", "secret08"

# What the centre does with a message.
Answer = Callable[["Centre", smpp34.SubmitSmEvent], None]


def take(centre: "Centre", submitted: smpp34.SubmitSmEvent) -> None:
    """Say that it is taken, and what it is called."""
    submitted.accept(centre.taken(submitted))


def reject(status: int) -> Answer:
    """Refuse it with that command status."""
    return lambda _centre, submitted: submitted.reject(status)


def cut_before(centre: "Centre", _submitted: smpp34.SubmitSmEvent) -> None:
    """The line breaks, and it is not taken."""
    centre.cut_line()


def cut_after(centre: "Centre", submitted: smpp34.SubmitSmEvent) -> None:
    """It is taken, and the line breaks before that is said."""
    centre.taken(submitted)
    centre.cut_line()


def say_nothing(centre: "Centre", submitted: smpp34.SubmitSmEvent) -> None:
    """Neither yes nor no, as a centre that hangs."""
    centre.held.append(submitted)


class Centre:
    """Runs in a thread of its own. Adapters reach it at `port`, by a line that can be cut.

    messages: what was taken, in order, each under the id that stands at the same place of `ids`.
    answers: what is done with the next messages; take() where there are none.
    held: what was neither taken nor refused.
    bound: how often an adapter has bound.
    read: what adapters sent, as it came.
    """

    def __init__(self) -> None:
        self.port = 0
        self.tls: ssl.SSLContext | None = None
        self.messages: list[smpp34.SubmitSmEvent] = []
        self.ids: list[str] = []
        self.answers: list[Answer] = []
        self.held: list[smpp34.SubmitSmEvent] = []
        self.bound = 0
        self.read: list[bytes] = []
        self._is_silent = False
        self._esme: smpp34.Esme | None = None
        self._lines: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._behind = 0

    def taken(self, submitted: smpp34.SubmitSmEvent) -> str:
        """Note that it is taken; the id that it has from now on."""
        self.messages.append(submitted)
        self.ids.append(f"{len(self.ids):08x}-id")
        return self.ids[-1]

    def report(
        self, its_id: str, state: str = "DELIVRD", *, tlvs: list[smpp34.Tlv] | None = None, text: bool = True
    ) -> int:
        """Bring a receipt; the command status that it was answered with."""
        dates = "submit date:2611221200 done date:2611221201"
        body = f"id:{its_id} sub:001 dlvrd:001 {dates} stat:{state} err:000 text:Du"
        return self.deliver(body.encode() if text else b"", 0x04, tlvs or [])

    def deliver(self, body: bytes, esm_class: int, tlvs: list[smpp34.Tlv]) -> int:
        """Bring any deliver_sm; the command status that it was answered with."""
        eventually(lambda: self._esme, 20)
        assert self._esme
        answer: smpp34.DeliverSmResp = self._wait(
            self._deliver(self._esme, body, esm_class, tlvs),
        )
        return answer.command_status

    def hang_up(self) -> None:
        """Cut the line, and wait until the adapter has bound again."""
        before = self.bound
        self._loop.call_soon_threadsafe(self.cut_line)
        eventually(lambda: self.bound > before, 20)

    def fall_silent(self) -> None:
        """Keep every connection as it is, pass nothing on; the next connection is sound again."""
        self._is_silent = True

    def cut_line(self) -> None:
        """Break every connection off; of the centre's own loop."""
        self._esme = None
        for line in list(self._lines):
            line.transport.abort()

    @staticmethod
    async def _deliver(
        esme: smpp34.Esme, body: bytes, esm_class: int, tlvs: list[smpp34.Tlv]
    ) -> smpp34.DeliverSmResp:
        return await esme.deliver_sm("Digdir", body, source_addr="4799999999", esm_class=esm_class, tlvs=tlvs)

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _serve(self, stopping: asyncio.Event, started: threading.Event) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._behind = free.getsockname()[1]
        server = smpp34.Server("127.0.0.1", self._behind, system_id="smsc")
        await server.start()
        front = await asyncio.start_server(self._connect, "127.0.0.1", self.port, ssl=self.tls)
        self.port = front.sockets[0].getsockname()[1]
        listening = asyncio.create_task(self._listen(server))
        started.set()
        await stopping.wait()
        front.close()
        self.cut_line()
        listening.cancel()
        await asyncio.wait([listening])
        await server.stop()

    async def _listen(self, server: smpp34.Server) -> None:
        while True:
            match await server.next():
                case smpp34.Esme() as esme:
                    self._esme = esme
                    self.bound += 1
                case smpp34.SubmitSmEvent() as submitted:
                    (self.answers.pop(0) if self.answers else take)(self, submitted)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes from either side."""
        self._is_silent = False
        behind = await asyncio.open_connection("127.0.0.1", self._behind)
        self._lines |= {writer, behind[1]}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, behind[1]))
                tasks.create_task(self._pump(behind[0], writer, from_centre=True))
        finally:
            self._lines -= {writer, behind[1]}

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_centre: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not from_centre:
                    self.read.append(data)
                if not self._is_silent:
                    writer.write(data)
        writer.close()


@contextmanager
def message_centre(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Centre]:
    """A centre that serves, on the port or a free one."""
    centre, stopping, started = Centre(), asyncio.Event(), threading.Event()
    centre.port, centre.tls = port, tls

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: centre._loop) as runner:
            runner.run(centre._serve(stopping, started))

    thread = threading.Thread(target=run, name="message-centre")
    thread.start()
    assert started.wait(20)
    try:
        yield centre
    finally:
        centre._loop.call_soon_threadsafe(stopping.set)
        thread.join(20)
        assert not thread.is_alive()
