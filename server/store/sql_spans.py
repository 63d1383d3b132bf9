"""A span for every SQL statement: its operation and table, never its text or values."""

from typing import Any

from opentelemetry import trace
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExecutionContext
from sqlalchemy.sql import dml

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
        name = _name(context, statement)
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


def _name(context: Any, statement: str) -> str:
    compiled = getattr(context.compiled, "statement", None)
    if isinstance(compiled, dml.UpdateBase):
        return f"{statement.split(maxsplit=1)[0]} {compiled.table}"
    froms: list[Any] = getattr(compiled, "get_final_froms", list)()
    tables = sorted({table.name for each in froms for table in each._from_objects if hasattr(table, "name")})
    return " ".join([statement.split(maxsplit=1)[0], *tables])
