"""`krr trace`: the spans of a call and of all that followed from it, found in files."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from krr_cli.__main__ import app
from krr_cli.span_files import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import INVALID_SPAN, Link, StatusCode, set_span_in_context
from opentelemetry.trace import Span as Writing
from typer.testing import CliRunner, Result

MILLISECOND = 1_000_000
BEGIN = 1_700_000_000_000 * MILLISECOND

CALL, SMS, RECEIPT = "a" * 32, "b" * 32, "c" * 32


class Ids(IdGenerator):
    """Span ids in order, and the trace id that is set."""

    trace_id = CALL
    last = 0

    def generate_trace_id(self) -> int:
        return int(self.trace_id, 16)

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last


class Parts:
    """Parts of the register that write their spans, each of which took 5 ms, to files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ids = Ids()

    def write(
        self,
        part: str,
        name: str,
        trace_id: str = CALL,
        *,
        under: Writing = INVALID_SPAN,
        to: Writing | None = None,
        at: int = 0,
        attributes: dict[str, str | int] | None = None,
        status: StatusCode = StatusCode.UNSET,
    ) -> Writing:
        """Write a span that links `to` another and began so many milliseconds after the story."""
        exporter = InMemorySpanExporter()
        provider = TracerProvider(resource=Resource({"service.name": part}), id_generator=self._ids)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        self._ids.trace_id = trace_id
        start = BEGIN + at * MILLISECOND
        span = provider.get_tracer("test").start_span(
            name,
            context=set_span_in_context(under),
            links=[Link(to.get_span_context())] if to else [],
            attributes=attributes,
            start_time=start,
        )
        span.set_status(status)
        span.end(start + 5 * MILLISECOND)
        with self.file(part).open("a") as file:
            file.writelines(f"{ended.to_json(indent=None)}\n" for ended in exporter.get_finished_spans())
        return span

    def file(self, part: str) -> Path:
        return self.directory / f"{part}.jsonl"


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


@pytest.fixture
def krr_trace(tmp_path: Path) -> Callable[..., Result]:
    return lambda *arguments: CliRunner().invoke(
        app, ["trace", *arguments], env={"KRR_TRACE_DIRECTORY": str(tmp_path)}
    )


KrrTrace = Callable[..., Result]


def test_what_a_call_caused_stands_below_it_however_far_off(parts: Parts, krr_trace: KrrTrace) -> None:
    call = parts.write("server", "Choose")
    parts.write("server", "SELECT person", under=call, at=1, attributes={"db.system.name": "postgresql"})
    parts.write("server", "UPDATE person", under=call, at=2, attributes={"db.system.name": "postgresql"})
    parts.write("server", "LookUp", "d" * 32, at=3)
    sms = parts.write("sms", "deliver sms", SMS, to=call, at=400, attributes={"krr.outcome": "done"})
    post: dict[str, str | int] = {
        "http.request.method": "POST",
        "http.response.status_code": 503,
        "url.full": "https://example.com/",
    }
    parts.write("sms", "link send", SMS, under=sms, at=410, attributes=post, status=StatusCode.ERROR)
    receipt = parts.write("sms", "/RecordReceipt", RECEIPT, at=2000)
    parts.write("server", "RecordReceipt", RECEIPT, under=receipt, to=sms, at=2001)

    shown = krr_trace(CALL)

    assert (shown.exit_code, shown.stderr) == (0, "")
    assert [line.rstrip() for line in shown.stdout.splitlines()] == [
        f"trace {CALL}",
        "└── server  Choose  +0.0 ms  took 5.0 ms",
        "    ├── server  2 SQL statements  +1.0 ms  took 10.0 ms",
        f"    └── sms  deliver sms  +400.0 ms  took 5.0 ms  krr.outcome=done  trace {SMS}",
        "        ├── sms  link send  +410.0 ms  took 5.0 ms  ERROR  http.request.method=POST"
        "  http.response.status_code=503",
        f"        └── sms  /RecordReceipt  +2000.0 ms  took 5.0 ms  trace {RECEIPT}",
        "            └── server  RecordReceipt  +2001.0 ms  took 5.0 ms",
    ]


def test_each_sql_statement_is_shown_on_demand_and_a_failed_one_always(
    parts: Parts, krr_trace: KrrTrace
) -> None:
    call = parts.write("server", "Choose")
    sql: dict[str, str | int] = {"db.system.name": "postgresql"}
    parts.write("server", "SELECT person", under=call, attributes=sql)
    parts.write("server", "UPDATE person", under=call, attributes=sql, status=StatusCode.ERROR)

    folded, every = krr_trace(CALL).stdout, krr_trace(CALL, "--statements").stdout

    assert "1 SQL statement " in folded
    assert "SELECT person" not in folded
    assert "UPDATE person" in folded
    assert "SELECT person" in every
    assert "SQL statement" not in every


def test_a_trace_whose_cause_is_lost_stands_at_the_end(parts: Parts, krr_trace: KrrTrace) -> None:
    lost = parts.write("server", "lost")
    parts.file("server").unlink()
    parts.write("server", "Choose", at=10)
    parts.write("sms", "deliver sms", SMS, to=lost, at=5)

    lines = krr_trace(CALL).stdout.splitlines()

    assert lines[1].startswith("├── server  Choose")
    assert lines[2].startswith("└── sms  deliver sms")


def test_what_is_left_of_a_lost_call_is_still_found_by_its_id(parts: Parts, krr_trace: KrrTrace) -> None:
    lost = parts.write("server", "lost")
    parts.file("server").unlink()
    parts.write("sms", "deliver sms", SMS, to=lost, at=5)

    assert "deliver sms  +0.0 ms" in krr_trace(CALL).stdout


def test_a_caused_trace_names_the_one_that_caused_it(parts: Parts, krr_trace: KrrTrace) -> None:
    parts.write("sms", "deliver sms", SMS, to=parts.write("server", "Choose"))

    shown = krr_trace(SMS).stdout

    assert f"caused by trace {CALL}" in shown
    assert "Choose" not in shown


def test_traces_that_link_to_each_other_are_shown_once(parts: Parts, krr_trace: KrrTrace) -> None:
    first = parts.write("server", "first")
    second = parts.write("server", "second", SMS, to=first)
    parts.write("server", "third", under=first, to=second)

    shown = krr_trace(CALL)

    assert shown.exit_code == 0
    for name in ("first", "second", "third"):
        assert shown.stdout.count(name) == 1


def test_the_beginning_of_an_id_is_enough_where_no_other_begins_so(parts: Parts, krr_trace: KrrTrace) -> None:
    parts.write("server", "Choose")
    assert krr_trace("aaaaaaaa").stdout == krr_trace("0xAAAAAAAAA").stdout == krr_trace(CALL).stdout

    parts.write("server", "LookUp", f"aaaaaaaab{'a' * 23}")
    refused = krr_trace("aaaaaaaa")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "2 traces begin with aaaaaaaa: name more digits\n"
    assert krr_trace("aaaaaaaaa").exit_code == 0


@pytest.mark.parametrize("trace_id", ["", "aaaaaaa", "g" * 32, "a" * 33, "11822648950; x", "bbbbbbbb"])
def test_an_id_that_names_no_trace_is_refused_in_one_line(
    parts: Parts, krr_trace: KrrTrace, trace_id: str
) -> None:
    parts.write("server", "Choose")

    refused = krr_trace(trace_id)

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1


def test_a_directory_without_traces_is_named(krr_trace: KrrTrace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "nothing here"

    refused = krr_trace(CALL, "--directory", str(elsewhere))

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == f"no trace files in {elsewhere}\n"


@pytest.mark.parametrize("revived", [False, True], ids=["last", "with what was written after it"])
def test_a_line_that_a_killed_part_left_unfinished_is_skipped_and_said_once(
    parts: Parts, krr_trace: KrrTrace, revived: bool
) -> None:
    call = parts.write("server", "Choose")
    parts.write("sms", "before", SMS, to=call)
    whole = parts.file("sms").read_text()
    with parts.file("sms").open("a") as file:
        file.write(whole[: len(whole) // 2])
    if revived:
        parts.write("sms", "swallowed", SMS, to=call)
        parts.write("sms", "after", SMS, to=call)

    shown = krr_trace(CALL)

    assert shown.exit_code == 0
    assert shown.stderr == "skipped lines that were not written to their end: 1 in sms.jsonl\n"
    assert "before" in shown.stdout
    assert ("after" in shown.stdout) is revived


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(spoilt=st.dictionaries(st.sampled_from(sorted(Span.model_fields)), JSON, min_size=1))
def test_a_line_that_is_no_span_spoils_no_story(spoilt: dict[str, object]) -> None:
    with TemporaryDirectory() as directory:
        parts = Parts(Path(directory))
        parts.write("server", "Choose")
        span = json.loads(parts.file("server").read_text())
        parts.file("other").write_text(f"{json.dumps(span | spoilt)}\n")

        shown = CliRunner().invoke(app, ["trace", CALL, "--directory", directory])

    assert (shown.exit_code, "server  Choose" in shown.stdout) == (0, True)


def test_json_gives_each_span_of_the_story_as_it_was_written(parts: Parts, krr_trace: KrrTrace) -> None:
    call = parts.write("server", "Choose", attributes={"krr.reason": "NONE"})
    parts.write("server", "LookUp", RECEIPT)
    parts.write("sms", "deliver sms", SMS, to=call, at=1)
    written = [
        json.loads(line)
        for part in ("server", "sms")
        for line in parts.file(part).read_text().splitlines()
        if '"LookUp"' not in line
    ]

    printed = krr_trace(CALL, "--json").stdout.splitlines()

    assert [json.loads(line) for line in printed] == written
