"""What several tests of adapters need."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from krr_client import connect
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from adapters import exchange, runner
from adapters.sandbox.control import running
from adapters.sandbox.digipost import make_app as make_digipost
from adapters.sandbox.eboks import make_app as make_eboks
from adapters.sandbox.link import make_app as make_link
from adapters.sandbox.population_register import make_app as make_population_register
from tests.adapters.digipost_sandbox import Digipost, digipost_running
from tests.adapters.eboks_sandbox import EBoks
from tests.adapters.fake_register import FakeRegister, serving
from tests.adapters.letter_sandbox import Persons
from tests.adapters.link_sandbox import SECOND_TOKEN, TOKEN, Link
from tests.adapters.sandbox import NOBODY_LISTENS


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """The spans that the runner and its HTTP calls end during the test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for module in (exchange, runner):
        monkeypatch.setattr(module, "_tracer", provider.get_tracer("test"))
    return exporter


@pytest.fixture(scope="session")
def digipost_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with keys only: making them takes longer than any test."""
    directory = tmp_path_factory.mktemp("digipost")
    make_digipost(directory, NOBODY_LISTENS)
    (directory / "accounts.sqlite").unlink()
    return directory


@pytest.fixture(scope="session")
def _digipost(digipost_keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Digipost]:
    data = shutil.copytree(digipost_keys, tmp_path_factory.mktemp("running") / "digipost")
    with digipost_running(data) as sandbox:
        yield sandbox


@pytest.fixture
def digipost(_digipost: Digipost) -> Digipost:
    _digipost.begin_anew()
    return _digipost


@pytest.fixture(scope="session")
def _eboks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EBoks]:
    data = tmp_path_factory.mktemp("eboks")
    with running(make_eboks(data, NOBODY_LISTENS)) as url:
        yield EBoks(url, data)


@pytest.fixture
def eboks(_eboks: EBoks) -> EBoks:
    _eboks.begin_anew()
    return _eboks


@pytest.fixture(scope="session")
def _link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    data = tmp_path_factory.mktemp("link")
    with running(make_link(data, NOBODY_LISTENS)) as url:
        yield Link(url, data)


@pytest.fixture
def link(_link: Link) -> Link:
    _link.begin_anew()
    return _link


@pytest.fixture
def fake_register() -> Iterator[FakeRegister]:
    """A register that serves, with a channel to it, and knows two receipt tokens."""
    register = FakeRegister()
    register.receipt_tokens = {TOKEN, SECOND_TOKEN}
    with (
        serving(register) as register.port,
        connect(f"127.0.0.1:{register.port}", "Development adapter/sms") as register.channel,
    ):
        yield register


@pytest.fixture(scope="session")
def _persons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Persons]:
    data = tmp_path_factory.mktemp("population-register")
    with running(make_population_register(data, NOBODY_LISTENS)) as url:
        yield Persons(url, data)


@pytest.fixture
def persons(_persons: Persons) -> Persons:
    _persons.begin_anew()
    return _persons
