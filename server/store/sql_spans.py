"""A span for every SQL statement: its operation and table, never its text or values."""

import functools
import re
from typing import Any

from opentelemetry import trace
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExecutionContext

from server.store.tables import metadata

_tracer = trace.get_tracer("server.store")


def trace_statements(engine: Engine) -> None:
    """Trace every statement that goes through the engine, inside a traced call."""
    event.listen(engine, "before_cursor_execute", _start)
    event.listen(engine, "after_cursor_execute", _end)
    event.listen(engine, "handle_error", _fail)


def _start(
    _connection: Any, _cursor: Any, statement: str, _parameters: Any, context: ExecutionContext, _many: bool
) -> None:
    if trace.get_current_span().is_recording():
        name = _name(statement)
        context.krr_span = _tracer.start_span(  # type: ignore[attr-defined]  # SQLAlchemy's place for such
            name,
            kind=trace.SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.query.summary": name},
        )


def _end(*arguments: Any) -> None:
    span = getattr(arguments[4], "krr_span", None)
    if span:
        span.end()


def _fail(context: Any) -> None:
    span = getattr(context.execution_context, "krr_span", None)
    if span:
        sqlstate = getattr(context.original_exception, "sqlstate", None)
        span.set_attribute("db.response.status_code", sqlstate or "connection lost")
        span.set_status(trace.StatusCode.ERROR)
        span.end()


@functools.lru_cache(maxsize=500)
def _name(statement: str) -> str:
    named = re.findall(r"\b(?:FROM|JOIN|INTO|UPDATE) ([a-z_]+)", statement)
    return " ".join(
        [statement.split(maxsplit=1)[0], *dict.fromkeys(t for t in named if t in metadata.tables)]
    )
