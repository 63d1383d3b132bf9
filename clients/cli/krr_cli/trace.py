"""The story of a call: its trace, and the traces of what it caused later."""

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from krr_cli.register import REFUSED, AsJson
from krr_cli.span_files import Span, SpanFiles

# Fewer digits would name somebody else's trace too soon.
_SHORTEST_PREFIX, _WHOLE = 8, 32

# A line per span for a script, which must not find them folded.
_WIDTH_WITHOUT_TERMINAL = 10_000

_SHOWN = {
    "rpc.method",
    "rpc.response.status_code",
    "rpc.grpc.status_code",
    "http.request.method",
    "http.response.status_code",
    "db.response.status_code",
}


def trace(
    trace_id: Annotated[
        str, typer.Argument(metavar="ID", help="The trace, or how its id begins: 8 digits or more.")
    ],
    directory: Annotated[
        Path, typer.Option(envvar="KRR_TRACE_DIRECTORY", help="Where the parts write their spans.")
    ] = Path(".krr/run/traces"),
    statements: Annotated[bool, typer.Option("--statements", help="Show each SQL statement.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a call did and what it caused: deliveries, messages, receipts.

    Logs name trace ids, and so do `krr deliveries list` and `krr messages list --json`.

    Spans are in files within a second, unless the parts were told to send them elsewhere.
    """
    prefix = trace_id.lower().removeprefix("0x")
    if not re.fullmatch(f"[0-9a-f]{{{_SHORTEST_PREFIX},{_WHOLE}}}", prefix):
        _refuse(f"a trace id is {_WHOLE} hexadecimal digits; name {_SHORTEST_PREFIX} or more of them")
    files = SpanFiles(directory)
    if not files:
        _refuse(f"no trace files in {directory}")
    found, linking = files.find(prefix)
    if len(found) > 1:
        _refuse(f"{len(found)} traces begin with {prefix}: name more digits")
    whole = "".join(found)
    spans = files.spans(_with_those_that_link(whole, linking))
    _say_unreadable(files)
    if not spans:
        _refuse(f"no trace {prefix} in {directory}")
    if as_json:
        for span in spans:
            typer.echo(span.line)
        return
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    console.print(_Story(whole, spans, statements).tree())


def _refuse(line: str) -> NoReturn:
    typer.echo(line, err=True)
    raise typer.Exit(REFUSED)


def _say_unreadable(files: SpanFiles) -> None:
    skipped = ", ".join(f"{count} in {file}" for file, count in files.unreadable.items())
    if skipped:
        typer.echo(f"skipped lines that were not written to their end: {skipped}", err=True)


def _with_those_that_link(trace_id: str, linking: Mapping[str, set[str]]) -> set[str]:
    reached, ahead = {trace_id}, [trace_id]
    while ahead:
        new = linking.get(ahead.pop(), set()) - reached
        reached |= new
        ahead += new
    return reached


class _Story:
    """The spans of a trace and of those that link to it, in one tree."""

    def __init__(self, trace_id: str, spans: list[Span], statements: bool) -> None:
        self._trace_id = trace_id
        self._statements = statements
        # Without the call itself, whose file may be gone, the story begins with what is left.
        self._begin = next((span for span in spans if span.trace_id == trace_id), spans[0]).start_time
        known = {(span.trace_id, span.context.span_id) for span in spans}
        # A span whose parent is not there begins its trace: callers write no spans here.
        self._roots: dict[str, list[Span]] = defaultdict(list)
        self._children: dict[tuple[str, str], list[Span]] = defaultdict(list)
        linking: dict[str, list[tuple[str, tuple[str, str]]]] = defaultdict(list)
        for span in spans:
            parent = (span.trace_id, span.parent_id or "")
            if parent in known:
                self._children[parent].append(span)
            else:
                self._roots[span.trace_id].append(span)
            for to in span.linked:
                linking[to[0]].append((span.trace_id, to))
        # Each trace stands in one place, under the first span it links to; "" is at the end.
        self._branches: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._placed = {trace_id}
        ahead = [trace_id]
        for reached in ahead:
            for other, to in linking[reached]:
                if other not in self._placed:
                    self._placed.add(other)
                    ahead.append(other)
                    self._branches[to if to in known else ("", "")].append(other)

    def tree(self) -> Tree:
        tree = Tree(Text(f"trace {self._trace_id}", "bold"))
        for trace_id in (self._trace_id, *self._branches["", ""]):
            self._add_trace(tree, trace_id)
        return tree

    def _add_trace(self, tree: Tree, trace_id: str) -> None:
        for root in self._roots[trace_id]:
            self._add(tree, root, "" if trace_id == self._trace_id else f"trace {trace_id}")

    def _add(self, tree: Tree, span: Span, trace: str = "") -> None:
        key = (span.trace_id, span.context.span_id)
        line = self._line(span.service, span.name, span.start_time, span.end_time - span.start_time)
        if span.status.status_code == "ERROR":
            line.append("  ERROR", "bold red")
        line.append("".join(f"  {each}" for each in _shown(span)))
        line.append(f"  {trace}" if trace else "", "cyan")
        for cause, _ in span.linked:
            if cause not in self._placed:
                line.append(f"  caused by trace {cause}", "cyan")
        branch = tree.add(line)
        children, folded = self._children[key], list[Span]()
        if not self._statements:
            folded = [child for child in children if _is_good_statement(child)]
            children = [child for child in children if not _is_good_statement(child)]
        if folded:
            took = sum((each.end_time - each.start_time for each in folded), timedelta())
            name = f"{len(folded)} SQL statement{'s' * (len(folded) > 1)}"
            branch.add(self._line(span.service, name, folded[0].start_time, took))
        for child in children:
            self._add(branch, child)
        for trace_id in self._branches[key]:
            self._add_trace(branch, trace_id)

    def _line(self, service: str, name: str, start: datetime, took: timedelta) -> Text:
        return Text.assemble(
            (service, "dim"),
            "  ",
            (name, "bold"),
            f"  {_milliseconds(start - self._begin):+.1f} ms",
            f"  took {_milliseconds(took):.1f} ms",
        )


def _is_good_statement(span: Span) -> bool:
    return "db.system.name" in span.attributes and span.status.status_code != "ERROR"


def _shown(span: Span) -> list[str]:
    """What tells how it went, less what the name says already."""
    return [
        f"{key}={value}"
        for key, value in span.attributes.items()
        if (key in _SHOWN or key.startswith("krr.")) and str(value) not in span.name
    ]


def _milliseconds(time: timedelta) -> float:
    return time / timedelta(milliseconds=1)
