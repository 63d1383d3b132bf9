"""Operators' events over streams, beside pgbench that does the same one per transaction."""

import itertools
import re
import time
import uuid

from krr.v1 import mailbox_event_pb2
from krr.v1 import mailbox_operator_service_pb2 as pb

from tests.bench import closed_loop, goals, pgbench
from tests.bench.bench import Bench
from tests.bench.calls import Calls
from tests.bench.processes import Failed
from tests.bench.register import MAIN, serving
from tests.bench.runs import Measure, Path, Paths, Run
from tests.bench.sent_statements import logging, transaction_of
from tests.people import DIGIPOST, EBOKS

_UPDATE = "/krr.v1.MailboxOperatorService/UpdateMailbox"
_PUSH = "/krr.v1.MailboxOperatorService/PushEvents"
_OPERATORS = (DIGIPOST, EBOKS)
_PERSONS = 20_000
_MOST_EVENTS_A_MESSAGE = 100
_MOST_EVENTS_A_SECOND = 10_000
# As for writes one by one.
_CLIENTS = 16

_WITH_MAILBOX = """
    SELECT identifier FROM person JOIN mailbox ON person_id = person.id
    WHERE operator = %s AND status = 'ACTIVE' ORDER BY person.id LIMIT %s
"""
# So that pgbench's transactions, all of which write what one wrote, may choose the mailbox or not.
_CHOOSE_NONE = "UPDATE mailbox SET chosen = false WHERE chosen"
# So that they change rows and insert none, as ours.
_GIVE_MAILBOXES = """
    INSERT INTO mailbox (person_id, operator, address, chosen, operator_state)
    SELECT id, %s, 'synthetic.person#' || id, false, 'IN_STEP' FROM person ORDER BY id LIMIT %s
    ON CONFLICT DO NOTHING
"""
_NOTE_MAILBOXES = """
    INSERT INTO mailbox_change (person_id, operator, change_number)
    SELECT id, %s, change_number FROM person ORDER BY id LIMIT %s ON CONFLICT DO NOTHING
"""
_NOT_DONE = """
    SELECT count(*) FROM request WHERE caller LIKE 'operator/%' AND result <> 'MAILBOX_RESULT_OK'
"""


def events(bench: Bench) -> Paths:
    """Two operators report other addresses of their mailboxes."""
    database = "events"
    bench.clone(database)
    script = _script(bench, database)
    yield Path(
        "events",
        [Measure("events pushed", "events/s", goal=goals.EVENTS)],
        floor=lambda: pgbench.run(
            bench.cluster,
            database,
            script,
            clients=_CLIENTS,
            seconds=bench.seconds,
            folder=bench.folder,
            watched={"database": bench.cluster.cpu_seconds},
        ),
        ours=lambda: _push(bench),
        process=bench.register.process,
    )
    bench.cluster.drop(database)


def _push(bench: Bench) -> Run:
    plans = []
    for operator in _OPERATORS:
        persons = _persons(bench, operator)
        size = min(_MOST_EVENTS_A_MESSAGE, len(persons))
        plans.append(
            Calls(
                kind="stream",
                address=bench.register.address,
                method=_PUSH,
                requests=_messages(bench, operator, persons, size),
                threads=1,
                seconds=bench.seconds,
                each_once=True,
                items=size,
            )
        )
    run = closed_loop.run("tests.bench.calls", plans, bench.folder, bench.watched(bench.register))
    with bench.cluster.connect(MAIN) as connection:
        [(not_done,)] = connection.execute(_NOT_DONE).fetchall()
    if not_done:
        raise Failed(f"{not_done} events were refused")
    return run


def _messages(bench: Bench, operator: str, persons: list[str], size: int) -> list[tuple[str, bytes]]:
    """Of so many events each, no person twice in one; their sequences lie above those of earlier runs."""
    most = round(_MOST_EVENTS_A_SECOND * bench.seconds / size) + 2
    first = time.time_ns() // 1000
    someone = itertools.cycle(persons)
    return [
        (
            f"operator/{operator}",
            pb.PushEventsRequest(
                events=[
                    mailbox_event_pb2.MailboxEvent(
                        event_id=str(uuid.uuid4()),
                        identifier=next(someone),
                        details=mailbox_event_pb2.EventDetails(sequence=sequence),
                        update=mailbox_event_pb2.MailboxContent(address=f"synthetic.person#{sequence}"),
                    )
                    for _ in range(size)
                ]
            ).SerializeToString(),
        )
        for sequence in range(first, first + most)
    ]


def _persons(bench: Bench, operator: str) -> list[str]:
    with bench.cluster.connect(MAIN) as connection:
        rows = connection.execute(_WITH_MAILBOX, [operator, _PERSONS]).fetchall()
    return [row[0] for row in rows]


def _script(bench: Bench, database: str) -> str:
    """Such an event by itself as PostgreSQL was sent it, with variables for what differs each time."""
    cluster, event_id, sequence = bench.cluster, str(uuid.uuid4()), 4711
    person = _persons(bench, DIGIPOST)[-1]
    request = pb.UpdateMailboxRequest(
        event_id=event_id,
        identifier=person,
        address="synthetic.person#0",
        details=mailbox_event_pb2.EventDetails(sequence=sequence),
    )
    with logging(cluster, database), serving(cluster, database, bench.folder / "logged-event") as register:
        answer = register.ask(_UPDATE, request.SerializeToString(), f"operator/{DIGIPOST}")
    number = pb.UpdateMailboxResponse.FromString(answer).answer.change_number
    row_id = pgbench.row_id_of(cluster, database, person)
    with cluster.connect(database) as connection:
        connection.execute(_CHOOSE_NONE)
        for statement in (_GIVE_MAILBOXES, _NOTE_MAILBOXES):
            connection.execute(statement, [DIGIPOST, _PERSONS])
    first, last = pgbench.rename_persons(cluster, database, _PERSONS)
    varying = {
        f"'{person}'": pgbench.IDENTIFIER,
        f"'{{{person}}}'": f"ARRAY[{pgbench.IDENTIFIER}]",
        f"'{row_id}'": ":person",
        f"'{{{row_id}}}'": "ARRAY[:person]",
        f"'{number}'": ":last_change_number",
        f"'{{{number}}}'": "ARRAY[:last_change_number]",
        f"'{{{sequence}}}'": "ARRAY[:sequence]",
        f"'{event_id}'": pgbench.REQUEST_ID,
    }

    def value_of(literal: str) -> str:
        # What stands for the person in the table of sequences.
        if re.fullmatch(r"""'\{"\\\\x[0-9a-f]{64}"\}'""", literal):
            return "ARRAY[int8send(:person::bigint)]"
        return pgbench.encoded(literal, number) or varying.get(literal, literal)

    transaction = pgbench.script_of(
        transaction_of(cluster, event_id),
        value_of,
        lambda text: "RETURNING register.last_change_number" in text,
    )
    choose = f"\\set person random({first}, {last})\n\\set request random(1, {2**62})\n"
    return f"{choose}\\set sequence random(1, {2**62})\n{transaction}"
