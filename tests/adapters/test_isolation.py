"""One operator down, slow or hostile changes nothing for the other, nor for callers of the register."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
from krr.v1 import citizen_service_pb2 as citizen
from krr.v1 import mailbox_operator_service_pb2 as operator
from krr.v1 import register_service_pb2 as reading
from krr_client import connect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from adapters.digipost.xml_body import compose
from adapters.runner import Runner
from adapters.sandbox.control import running
from adapters.work import mailbox_work
from server.__main__ import Server
from tests.adapters.digipost_sandbox import Digipost
from tests.adapters.eboks_sandbox import EBoks
from tests.adapters.fake_register import eventually, in_thread
from tests.adapters.sandbox import NOBODY_LISTENS, Sandbox, http, trickling
from tests.conftest import Register
from tests.people import DIGIPOST, EBOKS, register_request, request_id, synthetic_identifiers

NUMBERS = {"digipost": DIGIPOST, "eboks": EBOKS}
ADDRESSES = {"digipost": "kari.nordmann#9YDT", "eboks": "eboks-1234"}
PERSONS = list(itertools.islice(synthetic_identifiers(), 12))
# Far more than either takes on a busy machine when the other is sound; far less than going one
# by one through a circuit breaker that the two shared.
SECONDS_PER_CALL, SECONDS_TO_DRAIN = 5.0, 30.0


@contextmanager
def _down(sandbox: Sandbox) -> Iterator[str]:
    sandbox.behave("down")
    yield sandbox.url


@contextmanager
def _slow(sandbox: Sandbox) -> Iterator[str]:
    sandbox.behave("slow", 3.0)
    yield sandbox.url


@contextmanager
def _not_there(_sandbox: Sandbox) -> Iterator[str]:
    yield f"http://{NOBODY_LISTENS}"


@contextmanager
def _trickling(_sandbox: Sandbox) -> Iterator[str]:
    with trickling() as trickle:
        yield trickle.url


@contextmanager
def _without_end(_sandbox: Sandbox) -> Iterator[str]:
    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"<x>" * 20_000
            await asyncio.sleep(0)

    async def endless(_request: Request) -> Response:
        return StreamingResponse(chunks())

    with running(Starlette(routes=[Route("/{path:path}", endless, methods=["GET", "POST"])])) as url:
        yield url


@contextmanager
def _refusing_the_adapter(_sandbox: Sandbox) -> Iterator[str]:
    error = compose("error", ("error-code", "REVOKED_CERTIFICATE"), ("error-type", "CONFIGURATION"))

    def refuse(_request: Request) -> Response:
        return Response(error, 403)

    with running(Starlette(routes=[Route("/{path:path}", refuse, methods=["GET", "POST"])])) as url:
        yield url


@pytest.mark.parametrize(
    ("bad", "other", "misfortune"),
    [
        *(
            ("digipost", "eboks", misfortune)
            for misfortune in (_down, _slow, _not_there, _trickling, _without_end, _refusing_the_adapter)
        ),
        *(("eboks", "digipost", misfortune) for misfortune in (_down, _slow, _without_end)),
    ],
)
def test_the_other_operator_and_the_registers_callers_go_on(
    bad: str,
    other: str,
    misfortune: Callable[[Sandbox], AbstractContextManager[str]],
    server: Server,
    register: Register,
    digipost: Digipost,
    eboks: EBoks,
) -> None:
    sandboxes: dict[str, Digipost | EBoks] = {"digipost": digipost, "eboks": eboks}
    left, right = sandboxes[bad], sandboxes[other]
    _let_everybody_choose(register, bad)
    accounts = [
        {"identifier": each, "address": ADDRESSES[other], "receives_public_mail": False} for each in PERSONS
    ]
    http.put(f"{right.url}/sandbox/accounts", json=accounts).raise_for_status()
    with misfortune(left) as url:
        works = ((bad, left.adapter_for(url, 1.0)), (other, right.adapter_for(right.url)))
        with capture_logs() as logs, ExitStack() as stack:
            for name, adapter in works:
                channel = stack.enter_context(
                    connect(f"127.0.0.1:{server.port}", f"Development adapter/{name}")
                )
                stack.enter_context(in_thread(Runner(mailbox_work(name, adapter, channel, 30)).run))
            for person in PERSONS:
                _switch_and_look(register, person, other)
            eventually(lambda: _switched_on(right) == set(PERSONS), SECONDS_TO_DRAIN)
        left.behave("normal")
    failed = {log["adapter"] for log in logs if log["event"] in ("try_later", "misconfigured")}
    assert failed == {bad}


def _let_everybody_choose(register: Register, name: str) -> None:
    for person in PERSONS:
        register.as_log_in_service().RegisterPerson(register_request(person))
        for each, number in NUMBERS.items():
            report: dict[str, Any] = {
                "event_id": request_id(),
                "identifier": person,
                "address": ADDRESSES[each],
            }
            side = register.as_operator(number)
            if each == name:
                side.CreateAndChooseMailbox(operator.CreateAndChooseMailboxRequest(**report))
            else:
                side.CreateMailbox(operator.CreateMailboxRequest(**report))


def _switch_and_look(register: Register, person: str, name: str) -> None:
    began = time.monotonic()
    register.as_citizen(person).ChooseMailbox(
        citizen.ChooseMailboxRequest(
            request_id=request_id(), identifier=person, operator_organisation_number=NUMBERS[name]
        )
    )
    switched = time.monotonic()
    [found] = (
        register.as_public_body()
        .LookUpPersons(reading.LookUpPersonsRequest(identifiers=[person], purpose=reading.PURPOSE_NOTICE))
        .entries
    )
    looked = time.monotonic()
    assert found.person.mailbox.operator_organisation_number == NUMBERS[name]
    assert max(switched - began, looked - switched) < SECONDS_PER_CALL


def _switched_on(side: Sandbox) -> set[str]:
    accounts = http.get(f"{side.url}/sandbox/accounts").json()
    return {account["identifier"] for account in accounts if account["receives_public_mail"]}
