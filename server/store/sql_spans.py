"""A span for every SQL statement: its operation and table, never its text or values."""

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
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


@contextmanager
def statement_span(statement: str) -> Iterator[None]:
    """Trace a statement that goes past SQLAlchemy."""
    with _tracer.start_as_current_span(
        _name(statement),
        kind=trace.SpanKind.CLIENT,
        attributes=_attributes(statement),
        # A driver's message may quote what it was given.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except psycopg.Error as error:
            _set_failed(span, error)
            raise


def _start(
    _connection: Any, _cursor: Any, statement: str, _parameters: Any, context: ExecutionContext, _many: bool
) -> None:
    if trace.get_current_span().is_recording():
        context.krr_span = _tracer.start_span(  # type: ignore[attr-defined]  # SQLAlchemy's place for such
            _name(statement), kind=trace.SpanKind.CLIENT, attributes=_attributes(statement)
        )


def _end(*arguments: Any) -> None:
    span = getattr(arguments[4], "krr_span", None)
    if span:
        span.end()


def _fail(context: Any) -> None:
    span = getattr(context.execution_context, "krr_span", None)
    if span:
        _set_failed(span, context.original_exception)
        span.end()


def _attributes(statement: str) -> dict[str, str]:
    return {"db.system.name": "postgresql", "db.query.summary": _name(statement)}


def _set_failed(span: trace.Span, error: BaseException) -> None:
    span.set_attribute("db.response.status_code", getattr(error, "sqlstate", None) or "connection lost")
    span.set_status(trace.StatusCode.ERROR)


@functools.lru_cache(maxsize=500)
def _name(statement: str) -> str:
    named = re.findall(r"\b(?:FROM|JOIN|INTO|UPDATE) ([a-z_]+)", statement)
    return " ".join(
        [statement.split(maxsplit=1)[0], *dict.fromkeys(t for t in named if t in metadata.tables)]
    )
