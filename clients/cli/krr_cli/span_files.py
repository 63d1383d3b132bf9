"""The span files that each part of the register writes, read line by line: they grow large."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ValidationError

# Found in the text of a line, so that the many lines of other traces need not be parsed.
_TRACE_ID = re.compile(r"0x([0-9a-f]{32})\b")


class _Named(BaseModel):
    trace_id: str
    span_id: str


class _Link(BaseModel):
    context: _Named


class _Status(BaseModel):
    status_code: str


class _Resource(BaseModel):
    attributes: dict[str, object]


class Span(BaseModel):
    """A span as OpenTelemetry writes it.

    line: all that was written of it.
    """

    line: str = ""
    name: str
    context: _Named
    parent_id: str | None
    start_time: AwareDatetime
    end_time: AwareDatetime
    status: _Status
    attributes: dict[str, object]
    links: list[_Link]
    resource: _Resource

    @property
    def trace_id(self) -> str:
        """The trace it belongs to, 32 hexadecimal digits."""
        return _digits(self.context.trace_id)

    @property
    def service(self) -> str:
        """The part that wrote it."""
        return str(self.resource.attributes.get("service.name", "?"))

    @property
    def linked(self) -> list[tuple[str, str]]:
        """Trace id and span id of each span that it links to; span ids as in `context`."""
        return [(_digits(link.context.trace_id), link.context.span_id) for link in self.links]


class SpanFiles:
    """All *.jsonl in a directory. Half a line, as a part leaves that was killed or is writing
    just now, is skipped."""

    def __init__(self, directory: Path) -> None:
        self._files = sorted(directory.glob("*.jsonl"))
        self._skipped: set[tuple[Path, int]] = set()

    def __bool__(self) -> bool:
        return bool(self._files)

    @property
    def unreadable(self) -> dict[str, int]:
        """How many lines were skipped so far, by the name of the file."""
        counts: dict[str, int] = defaultdict(int)
        for file, _ in sorted(self._skipped):
            counts[file.name] += 1
        return dict(counts)

    def find(self, prefix: str) -> tuple[set[str], dict[str, set[str]]]:
        """The traces whose id begins so; and for each trace those that link to it."""
        found: set[str] = set()
        linking: dict[str, set[str]] = defaultdict(set)
        for place, line in self._lines():
            ids = set(_TRACE_ID.findall(line))
            found |= {each for each in ids if each.startswith(prefix)}
            if len(ids) > 1 and (span := self._span(place, line)):
                for trace_id, _ in span.linked:
                    linking[trace_id].add(span.trace_id)
        return found, linking

    def spans(self, trace_ids: set[str]) -> list[Span]:
        """The spans of the traces, the earliest first."""
        found = [
            span
            for place, line in self._lines()
            if not trace_ids.isdisjoint(_TRACE_ID.findall(line))
            and (span := self._span(place, line))
            and span.trace_id in trace_ids
        ]
        return sorted(found, key=lambda span: span.start_time)

    def _lines(self) -> Iterator[tuple[tuple[Path, int], str]]:
        for file in self._files:
            with file.open(encoding="utf-8", errors="replace") as lines:
                for number, line in enumerate(lines):
                    if line.endswith("}\n"):
                        yield (file, number), line
                    else:
                        self._skipped.add((file, number))

    def _span(self, place: tuple[Path, int], line: str) -> Span | None:
        try:
            span = Span.model_validate_json(line)
        except ValidationError:
            self._skipped.add(place)
            return None
        span.line = line.rstrip("\n")
        return span


def _digits(number: str) -> str:
    return number.removeprefix("0x")
