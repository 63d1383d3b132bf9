"""What several tests of adapters need."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from adapters import exchange, runner
from adapters.sandbox.control import running
from adapters.sandbox.link import make_app
from tests.adapters.link_sandbox import Link


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that the runner and its HTTP calls end during the test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (exchange, runner):
        monkeypatch.setattr(module, "_tracer", provider.get_tracer("test"))
    return exporter


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    with running(make_app(tmp_path / "link", "127.0.0.1:1")) as url:
        sandbox = Link(url, tmp_path / "link")
        yield sandbox
        sandbox.gateway.close()
