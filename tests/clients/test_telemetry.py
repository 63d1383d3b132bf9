"""Where spans and metrics go."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PROGRAM = """
import sys
from pathlib import Path
from opentelemetry import metrics, trace
from krr_client.telemetry import configure_telemetry
configure_telemetry("part", Path(sys.argv[1]))
metrics.get_meter("test").create_counter("some.count").add(1)
with trace.get_tracer("test").start_as_current_span("something"):
    pass
"""


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans as an OTLP collector does."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.names += [
            span.name
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()


class MetricCollector(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Takes metrics as an OTLP collector does."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.names += [
            metric.name
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return metrics_service_pb2.ExportMetricsServiceResponse()


def run_part(traces: Path, **settings: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run([sys.executable, "-c", PROGRAM, str(traces)], env=kept | settings, check=True)


def test_spans_and_metrics_go_to_the_endpoint_that_the_standard_settings_name(tmp_path: Path) -> None:
    collector, metrics, server = Collector(), MetricCollector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    run_part(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
    server.stop(0).wait()

    assert collector.names == ["something"]
    assert "some.count" in metrics.names
    assert not list(tmp_path.iterdir())


def test_spans_go_to_a_file_of_the_part_otherwise(tmp_path: Path) -> None:
    run_part(tmp_path / "traces")

    [line] = (tmp_path / "traces" / "part.jsonl").read_text().splitlines()
    assert '"name": "something"' in line
