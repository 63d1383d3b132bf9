"""What operators push in the long test, and whether what they were answered can be explained."""

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from krr.v1 import mailbox_event_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb

from tests.mailbox_events import CHOICE, NO_CERTIFICATE, REMOVAL, Model, content, event, is_uuid

# Of all events; the others are fresh and in order.
DUPLICATES, REORDERED, STALE, POISONOUS = 0.10, 0.10, 0.05, 0.01
# How much later than the first one a duplicate or stale event comes, at most.
_LATER = 1000
_OPERATIONS = ("create", "create_and_choose", "choose", "update", "delete")
_WEIGHTS = (3, 3, 2, 4, 3)


class Answered(NamedTuple):
    """An event with the answer that was acknowledged."""

    event: mailbox_event_pb2.MailboxEvent
    result: str
    number: int
    duplicate: bool


def answered(event: mailbox_event_pb2.MailboxEvent, acknowledgement: pb.EventAcknowledgement) -> Answered:
    """The event with its acknowledgement."""
    answer = acknowledgement.answer
    result = pb.MailboxResult.Name(answer.result).removeprefix("MAILBOX_RESULT_")
    return Answered(event, result, answer.change_number, answer.duplicate)


def make_events(
    chance: random.Random, persons: Sequence[str], count: int
) -> list[mailbox_event_pb2.MailboxEvent]:
    """So many events about these persons, in the order in which an operator that errs sends them."""
    fresh = round(count * (1 - DUPLICATES - STALE - POISONOUS))
    sequences: Counter[str] = Counter()
    events = []
    for _ in range(fresh):
        person = chance.choice(persons)
        sequences[person] += chance.randint(1, 3)
        events.append(event(person, sequences[person], **_operation(chance)))
    _reorder(chance, events, round(count * REORDERED))
    # Where each stands; what comes in addition stands somewhere after the event that it goes back to.
    placed = [(float(place), each) for place, each in enumerate(events)]
    for number in range(count - fresh):
        place = chance.randrange(fresh)
        first = events[place]
        if number < count * DUPLICATES:
            more = first
        elif number < count * (DUPLICATES + STALE):
            more = event(first.identifier, first.details.sequence, **_operation(chance))
        else:
            more = _poison(chance, first)
        placed.append((place + chance.uniform(0, _LATER), more))
    return [each for _, each in sorted(placed, key=lambda one: one[0])]


def first_answers(all_answered: Iterable[Answered]) -> list[Answered]:
    """The first answer to each event of one operator; fails where a later one is another."""
    firsts: dict[str, Answered] = {}
    for each in all_answered:
        if not is_uuid(each.event.event_id):
            assert each.result == "INVALID_EVENT"
            continue
        first = firsts.setdefault(each.event.event_id, each)
        if first.event != each.event:
            assert (each.result, each.duplicate) == ("EVENT_ID_REUSED", False)
        elif first is not each:
            assert (each.result, each.number, each.duplicate) == (first.result, first.number, True)
    return list(firsts.values())


def explain(model: Model, by_operator: Mapping[str, Iterable[Answered]]) -> int:
    """Apply the answers about one person to the model; the last change number, or 0.

    by_operator: in the order in which the answers were committed. Between operators change numbers
    say which came first; a refusal, which has none and changes nothing for the other operator, may
    stand wherever it is right.

    Fails where no order explains the answers.
    """
    waiting = {operator: deque(answers) for operator, answers in by_operator.items()}
    last = 0
    while any(waiting.values()):
        heads = [(operator, answers[0]) for operator, answers in waiting.items() if answers]
        right = [head for head in heads if model.judge(head[0], head[1].event) == head[1].result]
        refused = [head for head in right if head[1].result != "OK"]
        done = sorted((head for head in heads if head[1].result == "OK"), key=lambda head: head[1].number)
        assert refused or done, f"nothing explains {[head[1].result for head in heads]}"
        operator, each = next_one = (refused or done)[0]
        assert next_one in right, f"{each.result}, but {model.judge(operator, each.event)} is right"
        if each.result == "OK":
            assert each.number >= last, "change numbers and answers are in different orders"
            last = each.number
        model.apply(operator, each.event, each.result)
        waiting[operator].popleft()
    return last


def _operation(chance: random.Random) -> dict[str, Any]:
    [name] = chance.choices(_OPERATIONS, _WEIGHTS)
    others = {"choose": CHOICE, "delete": REMOVAL}
    return {name: others.get(name) or content(f"pushed.mailbox#{chance.randrange(4)}")}


def _reorder(chance: random.Random, events: list[mailbox_event_pb2.MailboxEvent], count: int) -> None:
    """Let so many events change places, each with the next one about the same person."""
    places: dict[str, list[int]] = {}
    for place, each in enumerate(events):
        places.setdefault(each.identifier, []).append(place)
    pairs = [pair for of_one in places.values() for pair in zip(of_one[::2], of_one[1::2], strict=False)]
    for one, other in chance.sample(pairs, count // 2):
        events[one], events[other] = events[other], events[one]


def _poison(chance: random.Random, first: mailbox_event_pb2.MailboxEvent) -> mailbox_event_pb2.MailboxEvent:
    person, sequence = first.identifier, first.details.sequence + 1
    return chance.choice(
        (
            event(person, sequence, event_id="none", delete=REMOVAL),
            event(person, 0, delete=REMOVAL),
            event(person, sequence),
            event("nobody", sequence, delete=REMOVAL),
            event(person, sequence, create=content("short")),
            event(person, sequence, update=content("pushed.mailbox#1", NO_CERTIFICATE)),
            event(person, sequence, event_id=first.event_id, update=content("reused.mailbox#1")),
        )
    )
