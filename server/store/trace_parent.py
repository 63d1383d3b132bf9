"""The trace that a row was written in, kept with it so that later work can be linked to it."""

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_TRACE_CONTEXT = TraceContextTextMapPropagator()


def current_trace_parent() -> str | None:
    """The current span as a W3C traceparent: ids and flags, so nothing personal; None where no
    recording span is current."""
    if not trace.get_current_span().is_recording():
        return None
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent")


def span_context_of(trace_parent: str | None) -> trace.SpanContext:
    """The span that a kept traceparent names; an invalid one where it names none."""
    found = _TRACE_CONTEXT.extract({"traceparent": trace_parent or ""})
    return trace.get_current_span(found).get_span_context()


def trace_id_of(trace_parent: str | None) -> str:
    """The id of the trace, 32 hexadecimal digits; "" where there is none."""
    context = span_context_of(trace_parent)
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
