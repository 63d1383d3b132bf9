"""Logs, traces and metrics, the same in every part of the register.

Logs are JSON lines on standard error. Spans go to the OTLP endpoint that the standard
settings name (OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), else to
a file of JSON lines. Metrics go to such an endpoint (OTEL_EXPORTER_OTLP_METRICS_ENDPOINT), else
nowhere. Whoever sets an attribute or logs a value answers for it being nothing personal: no
identity number, phone, e-mail or mailbox address.
"""

import atexit
import logging
import os
import sys
from pathlib import Path

import structlog
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

_OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"


def configure_logs() -> None:
    """Set up logging alone, for a process that does nothing to be traced; it starts no thread."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace_id,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def configure_telemetry(service_name: str, trace_directory: Path, process: int | None = None) -> None:
    """Set up logging, tracing and metrics of this process; once, before anything else starts.

    service_name: "service.name" of the spans, and the name of the file of spans in
        trace_directory (made if missing) where no OTLP endpoint is set.
    process: which one, where several do the same work side by side: "service.instance.id" of
        the spans, and part of the name of the file.
    """
    configure_logs()
    attributes, file = {"service.name": service_name}, service_name
    if process is not None:
        attributes["service.instance.id"] = str(process)
        file = f"{service_name}-{process}"
    resource = Resource.create(attributes)
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(
        BatchSpanProcessor(
            _exporter(trace_directory / f"{file}.jsonl"),
            schedule_delay_millis=500,
            # To write many at once would hold up the calls meanwhile.
            max_export_batch_size=64,
        )
    )
    trace.set_tracer_provider(provider)
    atexit.register(provider.shutdown)
    if _is_set(_OTLP_ENDPOINT, _METRICS_ENDPOINT):
        # Ends by itself with the process.
        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        metrics.set_meter_provider(MeterProvider([reader], resource))


def _is_set(*settings: str) -> bool:
    return any(os.environ.get(setting) for setting in settings)


def _exporter(file: Path) -> SpanExporter:
    if _is_set(_OTLP_ENDPOINT, _TRACES_ENDPOINT):
        return OTLPSpanExporter()
    file.parent.mkdir(parents=True, exist_ok=True)
    return ConsoleSpanExporter(
        out=file.open("a", encoding="utf-8"), formatter=lambda span: (span.to_json(indent=None) or "") + "\n"
    )


def _add_trace_id(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event
