"""What all sandbox suppliers share: switches to misbehave, accounts, and the server itself.

Nothing here logs or prints a request: suppliers put identity numbers in addresses.
"""

import asyncio
import uuid
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import uvicorn
from krr.v1 import mailbox_operator_service_pb2 as operator
from krr.v1.mailbox_operator_service_pb2_grpc import MailboxOperatorServiceStub
from krr_client import RegisterError, connect
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from adapters.http_server import serving
from adapters.sandbox.accounts import Account, Accounts


class Behaviour(StrEnum):
    """How a supplier behaves until told otherwise."""

    NORMAL = "normal"
    # Every connection is cut without an answer.
    DOWN = "down"
    # Sleeps first, then does the work, also when the caller has gone.
    SLOW = "slow"
    # The supplier's own final refusal; each supplier says it in its own words.
    REFUSE = "refuse"
    # Does the work, then cuts the connection without an answer. What only reads is answered:
    # who looks before it acts would never get to act.
    LOSE_ANSWER = "lose_answer"


@dataclass
class Switch:
    """The behaviour in force; a supplier looks at it for `REFUSE` only, the rest is done around it."""

    behaviour: Behaviour = Behaviour.NORMAL
    slow_seconds: float = 30.0


def sandbox_app(
    supplier: Sequence[Route],
    switch: Switch,
    control: Sequence[Route] = (),
    *,
    reading_posts: Collection[str] = (),
) -> Starlette:
    """The supplier's routes under the switch, with the control routes beside them.

    supplier: routes that misbehave as told; none may begin with /sandbox/.
    control: further routes under /sandbox/, such as account_routes().
    reading_posts: paths where POST changes nothing that matters (as GET never does): LOSE_ANSWER
        loses none there.
    """

    async def put_behaviour(request: Request) -> Response:
        try:
            order = _Order.model_validate_json(await request.body())
        except ValidationError:
            return JSONResponse({"error": f"behaviour: one of {', '.join(Behaviour)}"}, 400)
        switch.behaviour, switch.slow_seconds = order.behaviour, order.slow_seconds
        return await get_behaviour(request)

    async def get_behaviour(_request: Request) -> Response:
        return JSONResponse(asdict(switch))

    return Starlette(
        routes=[
            Route("/sandbox/behaviour", put_behaviour, methods=["PUT"]),
            Route("/sandbox/behaviour", get_behaviour, methods=["GET"]),
            *control,
            *supplier,
        ],
        middleware=[Middleware(_UnderSwitch, switch=switch, reading_posts=frozenset(reading_posts))],
    )


def account_routes(accounts: Accounts, register: str, credential: str) -> list[Route]:
    """Control routes by which an operator's accounts are seeded, seen, removed, and opened by citizens.

    register: "host:port" of the register that hears of opened accounts.
    credential: the operator's own, such as "Development operator/984661185".
    """

    def put_accounts(_request: Request, body: bytes) -> Response:
        accounts.put(_ACCOUNTS.validate_json(body))
        return Response(status_code=204)

    def get_accounts(_request: Request, _body: bytes) -> Response:
        return JSONResponse([asdict(account) for account in accounts.list()])

    def delete_accounts(_request: Request, body: bytes) -> Response:
        accounts.remove(_IDENTIFIERS.validate_json(body))
        return Response(status_code=204)

    def open_account(_request: Request, body: bytes) -> Response:
        opening = _Opening.model_validate_json(body)
        account = accounts.open(opening.identifier)
        try:
            answer = _report(account, opening.choose, register, credential)
        except RegisterError as error:
            return JSONResponse({"error": error.reason or error.status.name}, 502)
        result = operator.MailboxResult.Name(answer.result).removeprefix("MAILBOX_RESULT_")
        return JSONResponse(
            {"address": account.address, "result": result, "change_number": answer.change_number}
        )

    return [
        Route("/sandbox/accounts", _in_thread(put_accounts), methods=["PUT"]),
        Route("/sandbox/accounts", _in_thread(get_accounts), methods=["GET"]),
        Route("/sandbox/accounts", _in_thread(open_account), methods=["POST"]),
        Route("/sandbox/accounts", _in_thread(delete_accounts), methods=["DELETE"]),
    ]


def running(app: Starlette, listen: str = "127.0.0.1:0", **tls: Any) -> AbstractContextManager[str]:
    """Serve in a thread of this process, on a real socket; yields the base URL without slash.

    tls: uvicorn's options beginning with ssl_; without them no TLS.
    """
    # Suppliers that sign their answers' date set it themselves.
    return serving(app, listen, http=_CuttableProtocol, date_header=False, timeout_graceful_shutdown=1, **tls)


class _Order(BaseModel):
    behaviour: Behaviour
    slow_seconds: float = Field(default=30.0, ge=0, le=600)


class _Opening(BaseModel):
    identifier: str = Field(pattern="^[0-9]{11}$")
    choose: bool


_ACCOUNTS = TypeAdapter(list[Account])
_IDENTIFIERS = TypeAdapter(list[str])


def _in_thread(handle: Callable[[Request, bytes], Response]) -> Callable[[Request], Any]:
    """An endpoint that may block, and answers 400 where the body is not as it should be."""

    async def endpoint(request: Request) -> Response:
        try:
            return await asyncio.to_thread(handle, request, await request.body())
        except ValidationError as error:
            where = sorted({".".join(map(str, problem["loc"])) for problem in error.errors()})
            return JSONResponse({"error": f"malformed: {', '.join(where)}"}, 400)

    return endpoint


def _report(account: Account, choose: bool, register: str, credential: str) -> operator.MailboxAnswer:
    event: dict[str, Any] = {
        "event_id": str(uuid.uuid4()),
        "identifier": account.identifier,
        "address": account.address,
    }
    with connect(register, credential) as channel:
        service = MailboxOperatorServiceStub(channel)
        if choose:
            return service.CreateAndChooseMailbox(operator.CreateAndChooseMailboxRequest(**event)).answer
        return service.CreateMailbox(operator.CreateMailboxRequest(**event)).answer


class _UnderSwitch:
    def __init__(self, app: ASGIApp, switch: Switch, reading_posts: frozenset[str]) -> None:
        self._app = app
        self._switch = switch
        self._reading_posts = reading_posts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        controlling = scope["type"] != "http" or scope["path"].startswith("/sandbox/")
        behaviour = Behaviour.NORMAL if controlling else self._switch.behaviour
        if behaviour is Behaviour.DOWN:
            await _cut(scope, receive)
        elif behaviour is Behaviour.SLOW:
            # Read before the sleep: a caller that hangs up must not take the body with it.
            receive = await _read_ahead(receive)
            await asyncio.sleep(self._switch.slow_seconds)
            await self._app(scope, receive, send)
        elif behaviour is Behaviour.LOSE_ANSWER and not self._only_reads(scope):
            await self._app(scope, receive, _send_nothing)
            await _cut(scope, receive)
        else:
            await self._app(scope, receive, send)

    def _only_reads(self, scope: Scope) -> bool:
        return scope["method"] == "GET" or scope["path"] in self._reading_posts


async def _send_nothing(_message: Message) -> None:
    pass


async def _read_ahead(receive: Receive) -> Receive:
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def replay() -> Message:
        return messages.pop(0) if messages else await receive()

    return replay


async def _cut(scope: Scope, receive: Receive) -> None:
    scope["state"]["abort_connection"]()
    # Until uvicorn knows that the caller is gone, it would answer 500 for want of an answer.
    while (await receive())["type"] != "http.disconnect":
        pass


class _CuttableProtocol(H11Protocol):
    def __init__(
        self,
        config: uvicorn.Config,
        server_state: uvicorn.server.ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        state = {**app_state, "abort_connection": lambda: self.transport.abort()}
        super().__init__(config, server_state, state, _loop)
