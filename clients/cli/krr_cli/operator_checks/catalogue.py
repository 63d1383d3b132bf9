"""All checks, in the order in which they run."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from krr_cli.operator_checks import answers, feeds, sequences, streams
from krr_cli.operator_checks.check import Check
from krr_cli.operator_checks.operator_side import OperatorSide, Person
from krr_cli.operator_checks.ways import by_calls, by_stream

# Each with the number of persons that it takes.
_BY_CALLS_AND_BY_STREAM: tuple[tuple[Callable[..., None], int], ...] = (
    (answers.create, 1),
    (answers.same_event_again, 1),
    (answers.refused_event_again, 1),
    (answers.same_event_at_once, 1),
    (answers.event_id_reused, 2),
    (answers.create_with_other_data, 1),
    (answers.choose, 1),
    (answers.create_and_choose, 1),
    (answers.update, 1),
    (answers.delete, 1),
    (answers.update_after_delete, 1),
    (answers.malformed, 1),
    (sequences.outdated, 1),
    (sequences.gaps, 1),
    (sequences.of_each_person, 2),
    (sequences.refused_does_not_count, 1),
    (sequences.late_create, 1),
    (sequences.late_update, 1),
    (sequences.time_decides_nothing, 1),
    (sequences.evidence, 1),
)
_STREAMS: tuple[tuple[Callable[[OperatorSide, list[Person]], None], int], ...] = (
    (sequences.of_calls_and_streams, 2),
    (streams.acknowledged_in_order, 3),
    (streams.many_in_a_message, 4),
    (streams.poison_stops_nothing, 2),
    (streams.repeated, 1),
    (streams.reordered, 3),
    (streams.cut, 3),
    (streams.same_events_on_two_streams, 3),
    (streams.mixture, 3),
)
_FEEDS: tuple[tuple[Callable[[OperatorSide, list[Person]], None], int], ...] = (
    (feeds.lost_answer, 1),
    (feeds.listed, 6),
    (feeds.watched, 6),
    (feeds.waited_for, 1),
)
_OTHER_OPERATOR = ((feeds.of_another_operator, 1),)


def checks(*, other_operator: bool) -> list[Check]:
    """All of them.

    other_operator: whether there is another operator's credential, which one check takes.
    """
    found = [
        _check(group, each, persons, _sending(each, way))
        for group, way in (("call", by_calls), ("stream", by_stream))
        for each, persons in _BY_CALLS_AND_BY_STREAM
    ]
    found += [_check("stream", each, persons, each) for each, persons in _STREAMS]
    found += [_check("feed", each, persons, each) for each, persons in _FEEDS]
    if other_operator:
        found += [_check("feed", each, persons, each) for each, persons in _OTHER_OPERATOR]
    return found


def _check(group: str, each: Callable[..., None], persons: int, try_it: Callable[..., None]) -> Check:
    promise = re.sub(r"\s+", " ", (each.__doc__ or "").strip())
    return Check(f"{group}.{each.__name__.replace('_', '-')}", persons, promise, try_it)


def _sending(each: Callable[..., None], way: Any) -> Callable[[OperatorSide, list[Person]], None]:
    def try_it(side: OperatorSide, persons: list[Person]) -> None:
        each(side, partial(way, side.stub), *persons)

    return try_it
