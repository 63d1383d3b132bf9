"""What streams of events promise: order, poison, cuts, repetition."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

from krr.v1 import mailbox_event_pb2 as event_pb
from krr.v1 import mailbox_operator_service_pb2 as pb

from krr_cli.operator_checks.events import CHOICE, REMOVAL, personal_certificate, with_id_of
from krr_cli.operator_checks.model import Mailboxes, Model
from krr_cli.operator_checks.operator_side import OperatorSide, Person, answered
from krr_cli.operator_checks.surprise import Surprise, expect
from krr_cli.operator_checks.ways import Stream, by_stream
from krr_cli.show import name

_MOST_PER_MESSAGE = 1000
_PER_MESSAGE = 10
_MIXED_EVENTS = 300
# The same mixture in every run, so that runs can be compared.
_SEED = 20160201


def acknowledged_in_order(side: OperatorSide, persons: list[Person]) -> None:
    """A stream acknowledges each event, in order, whether many come in a message or one."""
    events, contents = [], []
    for person in persons:
        contents.append(side.events.content(certificate=personal_certificate()))
        events += [
            side.event(person, create=side.events.content()),
            side.event(person, choose=CHOICE),
            side.event(person, update=contents[-1]),
        ]
    stream = Stream(side.stub)
    try:
        stream.send(events[:1])
        stream.receive(1)
        stream.send(events[1:3])
        stream.send(events[3:])
        answers = stream.end()
    finally:
        stream.cut()
    expect("answers", ["OK"] * len(events), [answered(answer) for answer in answers])
    for person, content in zip(persons, contents, strict=True):
        side.expect_held(person, content, chosen=True)


def many_in_a_message(side: OperatorSide, persons: list[Person]) -> None:
    """A message takes 1000 events; each has its effect, with a change number of its own."""
    events = [side.event(person, create=side.events.content()) for person in persons]
    while len(events) < _MOST_PER_MESSAGE:
        person = persons[len(events) % len(persons)]
        events.append(side.event(person, update=side.events.content()))
    answers = by_stream(side.stub, events)
    _expect_each_applied_once(answers)
    last = {event.identifier: event.update for event in events}
    for person in persons:
        side.expect_held(person, last[person.identifier])


def poison_stops_nothing(side: OperatorSide, persons: list[Person]) -> None:
    """Events that make no sense are answered so, and those round them are applied."""
    first, second = persons
    poison = _poisonous(side, first)
    contents = [side.events.content() for _ in poison]
    events = [side.event(second, create=side.events.content())]
    for (_, event, _), content in zip(poison, contents, strict=True):
        events += [event, side.event(second, update=content)]
    answers = by_stream(side.stub, events)
    for (what, _, result), answer in zip(poison, answers[1::2], strict=True):
        expect(f"an event with {what}", result, answered(answer))
    expect("answers to the events round them", {"OK"}, set(map(answered, answers[0::2])))
    side.expect_held(first, None)
    side.expect_held(second, contents[-1])


def repeated(side: OperatorSide, persons: list[Person]) -> None:
    """Events repeated in the same message, in the same stream and in another do nothing twice."""
    [person] = persons
    content = side.events.content()
    events = [side.event(person, create=side.events.content()), side.event(person, update=content)]
    reused = with_id_of(events[0], side.event(person, update=side.events.content()))
    stream = Stream(side.stub)
    try:
        stream.send([*events, *events, reused])
        stream.send(events)
        answers = [*stream.end(), *by_stream(side.stub, events)]
    finally:
        stream.cut()
    again = ["OK, duplicate"] * 2
    expect(
        "answers",
        ["OK", "OK", *again, "EVENT_ID_REUSED", *again, *again],
        [answered(answer) for answer in answers],
    )
    del answers[4]
    numbers = [answer.change_number for answer in answers]
    expect("whether duplicates have the first change numbers", True, numbers == numbers[:2] * 4)
    side.expect_held(person, content)


def reordered(side: OperatorSide, persons: list[Person]) -> None:
    """Events out of order: each is applied or OUTDATED by its sequence, and the highest one stands."""
    events = []
    for person in persons:
        own = [side.event(person, create=side.events.content())]
        own += [side.event(person, update=side.events.content()) for _ in range(20)]
        late = own[1:]
        Random(_SEED).shuffle(late)
        events += [own[0], *late]
    model = Model()
    _expect_results([model.answer(event) for event in events], by_stream(side.stub, events))
    _expect_model(side, persons, model)


def cut(side: OperatorSide, persons: list[Person]) -> None:
    """Streams cut anywhere: what was acknowledged is there, and sending again doubles and loses nothing."""
    events = [side.event(person, create=side.events.content()) for person in persons]
    for _ in range(30):
        events += [side.event(person, update=side.events.content()) for person in persons]
    results = ["OK"] * len(events)
    answers = _through_cuts(side, events, results, [1, 0, 25, 60])
    _expect_each_applied_once(answers)
    for person, event in zip(persons, events[-len(persons) :], strict=True):
        side.expect_held(person, event.update)
    again = by_stream(side.stub, events)
    expect("answers when all are sent again", {"OK, duplicate"}, set(map(answered, again)))
    _expect_same_numbers(answers, again)


def same_events_on_two_streams(side: OperatorSide, persons: list[Person]) -> None:
    """The same events on two streams at once, as after a cut that only one side noticed, count once."""
    events = []
    for person in persons:
        events.append(side.event(person, create=side.events.content()))
        events += [side.event(person, update=side.events.content()) for _ in range(20)]
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: by_stream(side.stub, events), range(2))
    for one, other in zip(first, second, strict=True):
        expect(
            "answers on both streams",
            ["OK", "OK, duplicate"],
            sorted([answered(one), answered(other)]),
        )
    _expect_same_numbers(first, second)
    _expect_each_applied_once(first)


def mixture(side: OperatorSide, persons: list[Person]) -> None:
    """Hundreds of events, repeated, reordered, stale, poisonous, through cuts: all as the model says."""
    random, model = Random(_SEED), Model()
    events: list[event_pb.MailboxEvent] = []
    while len(events) < _MIXED_EVENTS:
        person = random.choice(persons)
        operation = random.choice(("create", "create_and_choose", "choose", "update", "update", "delete"))
        content: Any = {"choose": CHOICE, "delete": REMOVAL}.get(operation) or side.events.content()
        event = side.event(person, **{operation: content})
        # In the middle, so that others overtake it.
        late = random.random() < 0.1
        events.insert(max(0, len(events) - random.randrange(1, 6)) if late else len(events), event)
        if random.random() < 0.1:
            events.append(random.choice(events))
    poison = {
        event.event_id: (event, result)
        for what, event, result in _poisonous(side, persons[0])
        if event.event_id
    }
    for event, _ in poison.values():
        events.insert(random.randrange(len(events)), event)
    results = [
        poison[event.event_id][1] if event.event_id in poison else model.answer(event) for event in events
    ]
    _through_cuts(side, events, results, [30, 1, 100, 0, 50])
    _expect_model(side, persons, model)


def _through_cuts(
    side: OperatorSide,
    events: Sequence[event_pb.MailboxEvent],
    results: Sequence[str],
    cuts: Sequence[int],
) -> list[pb.MailboxAnswer]:
    """Send the events over streams that are cut after so many answers, and then over one that is not.

    What was not acknowledged is sent again. Returns the answer to each event. Raises Surprise
    where one is another than the result, where a duplicate has another number than the first, or
    where what was acknowledged is not there.
    """
    answers: list[pb.MailboxAnswer] = []
    for answers_wanted in [*cuts, None]:
        left = events[len(answers) :]
        stream = Stream(side.stub)
        try:
            for at in range(0, len(left), _PER_MESSAGE):
                stream.send(left[at : at + _PER_MESSAGE])
            if answers_wanted is None:
                stream.end()
            else:
                stream.receive(min(answers_wanted, len(left)))
        finally:
            stream.cut()
        # More may have come than was waited for: all that came was acknowledged.
        answers += stream.answers
        _expect_there(side, events, answers)
    _expect_results(results, answers)
    first: dict[str, int] = {}
    for event, answer in zip(events, answers, strict=True):
        again = first.setdefault(event.event_id, answer.change_number)
        expect("whether a repeated event has its first change number", True, again == answer.change_number)
    return answers


def _expect_there(
    side: OperatorSide, events: Sequence[event_pb.MailboxEvent], answers: Sequence[pb.MailboxAnswer]
) -> None:
    side.holdings.read_on()
    for event, answer in zip(events, answers, strict=False):
        if name(pb.MailboxResult, answer.result) != "OK":
            continue
        if side.holdings.of(event.identifier).change_number < answer.change_number:
            raise Surprise("what was acknowledged is in the feed", "an older change of the person")


def _expect_results(results: Sequence[str], answers: Sequence[pb.MailboxAnswer]) -> None:
    for place, (result, answer) in enumerate(zip(results, answers, strict=True), start=1):
        expect(f"event {place} of {len(results)}", result, name(pb.MailboxResult, answer.result))


def _expect_each_applied_once(answers: Sequence[pb.MailboxAnswer]) -> None:
    """Raises Surprise where not all are OK and have a change number of their own."""
    for place, answer in enumerate(answers, start=1):
        expect(f"event {place} of {len(answers)}", "OK", name(pb.MailboxResult, answer.result))
    numbers = [answer.change_number for answer in answers]
    expect("different change numbers", len(numbers), len(set(numbers)))


def _expect_same_numbers(first: Sequence[pb.MailboxAnswer], second: Sequence[pb.MailboxAnswer]) -> None:
    same = [one.change_number == other.change_number for one, other in zip(first, second, strict=True)]
    expect("events answered with the same change number again", len(same), sum(same))


def _expect_model(side: OperatorSide, persons: Sequence[Person], model: Model) -> None:
    for person in persons:
        mailbox = model.persons.get(person.identifier, Mailboxes())
        side.expect_held(person, mailbox.content, chosen=mailbox.chosen)


def _poisonous(side: OperatorSide, person: Person) -> list[tuple[str, event_pb.MailboxEvent, str]]:
    """Events that make no sense: what is wrong, the event, its result.

    Their sequences are above all others, for which of two faults is named is open.
    """
    content = side.events.content()

    def event(**operation: Any) -> event_pb.MailboxEvent:
        return side.event(person, **operation)

    bad_id, no_id, bad_identifier, no_sequence, bad_sequence, bad_hash = (
        event(create=content) for _ in range(6)
    )
    bad_id.event_id = "not a UUID"
    no_id.event_id = ""
    bad_identifier.identifier = "12345678901"
    no_sequence.ClearField("details")
    bad_sequence.details.sequence = -1
    bad_hash.details.evidence.agreed_text_sha256 = b"short"
    return [
        ("an id that is no UUID", bad_id, "INVALID_EVENT"),
        ("no id", no_id, "INVALID_EVENT"),
        ("no operation", event(), "INVALID_EVENT"),
        ("no sequence", no_sequence, "INVALID_EVENT"),
        ("a negative sequence", bad_sequence, "INVALID_EVENT"),
        ("malformed evidence", bad_hash, "INVALID_EVENT"),
        ("a malformed identifier", bad_identifier, "INVALID_IDENTIFIER"),
        (
            "a malformed address",
            event(create=event_pb.MailboxContent(address="x" * 101)),
            "INVALID_MAILBOX_ADDRESS",
        ),
        (
            "a malformed certificate",
            event(create=event_pb.MailboxContent(address=content.address, certificate=b"none")),
            "INVALID_CERTIFICATE",
        ),
    ]
