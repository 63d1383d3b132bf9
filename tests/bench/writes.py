"""Writes one by one, and what adapters ask of the register."""

import random
import uuid

from krr.v1 import citizen_service_pb2 as pb

from tests.bench import closed_loop, goals, pgbench
from tests.bench.bench import Bench
from tests.bench.calls import Calls
from tests.bench.processes import Failed
from tests.bench.register import MAIN, serving
from tests.bench.runs import Measure, Path, Paths, Run
from tests.bench.sent_statements import logging, transaction_of

_CONFIRM = "/krr.v1.CitizenService/ConfirmContact"
_PROCESSES, _THREADS = 2, 8
_CLIENTS = _PROCESSES * _THREADS
_CITIZENS = 20_000
_MOST_WRITES_A_SECOND = 8_000
_MOST_DELIVERIES_A_SECOND = 4_000
_ADAPTERS = ("digipost", "eboks")

_MAKE_DELIVERIES = """
    INSERT INTO delivery (operator, person_id, change_number, created_time, not_before_time,
        failed_attempts, refused)
    SELECT mailbox.operator, person.id, person.change_number, now(), now(), 0, false
    FROM mailbox JOIN person ON person.id = mailbox.person_id
    WHERE mailbox.chosen AND NOT person.reserved AND person.status = 'ACTIVE' LIMIT %s
"""


def writes(bench: Bench) -> Paths:
    """Citizens confirm their contact info, beside pgbench with the statements of such a write."""
    database = "writes"
    bench.clone(database)
    script = _script(bench, database)
    citizens = bench.citizens(_CITIZENS)
    yield Path(
        "writes",
        [Measure("writes one by one", "writes/s", goal=goals.WRITES)],
        floor=lambda: pgbench.run(
            bench.cluster,
            database,
            script,
            clients=_CLIENTS,
            seconds=bench.seconds,
            folder=bench.folder,
            watched={"database": bench.cluster.cpu_seconds},
        ),
        ours=lambda: _confirm(bench, citizens),
        process=bench.register.process,
    )
    bench.cluster.drop(database)


def _confirm(bench: Bench, citizens: list[str]) -> Run:
    requests = [
        (f"citizen/{citizen}", _confirmation(citizen, str(uuid.uuid4())))
        for citizen in random.choices(citizens, k=round(_MOST_WRITES_A_SECOND * bench.seconds) + _CLIENTS)
    ]
    plans = [
        Calls(
            kind="unary",
            address=bench.register.address,
            method=_CONFIRM,
            requests=requests[number::_PROCESSES],
            threads=_THREADS,
            seconds=bench.seconds,
            each_once=True,
        )
        for number in range(_PROCESSES)
    ]
    before = bench.cluster.count(MAIN, "request")
    run = closed_loop.run("tests.bench.calls", plans, bench.folder, bench.watched(bench.register))
    written = bench.cluster.count(MAIN, "request") - before
    if written != run.items + _CLIENTS:
        raise Failed(f"{run.items + _CLIENTS} writes answered, {written} in the database")
    return run


def _confirmation(citizen: str, request_id: str) -> bytes:
    return pb.ConfirmContactRequest(request_id=request_id, identifier=citizen).SerializeToString()


def _script(bench: Bench, database: str) -> str:
    """Such a write as PostgreSQL was sent it, with variables for what differs from write to write."""
    cluster, request_id = bench.cluster, str(uuid.uuid4())
    citizen = bench.citizens(_CITIZENS)[-1]
    with logging(cluster, database), serving(cluster, database, bench.folder / "logged") as register:
        answer = register.ask(_CONFIRM, _confirmation(citizen, request_id), f"citizen/{citizen}")
    number = pb.ConfirmContactResponse.FromString(answer).answer.change_number
    row_id = pgbench.row_id_of(cluster, database, citizen)
    first, last = pgbench.rename_persons(cluster, database, _CITIZENS)
    varying = {
        f"'{citizen}'": pgbench.IDENTIFIER,
        f"'{row_id}'": ":person",
        f"'{number}'": ":last_change_number",
        f"'{request_id}'": pgbench.REQUEST_ID,
    }

    transaction = pgbench.script_of(
        transaction_of(cluster, request_id),
        lambda literal: pgbench.encoded(literal, number) or varying.get(literal, literal),
        lambda text: "RETURNING register.last_change_number" in text,
    )
    choose = f"\\set person random({first}, {last})\n\\set request random(1, {2**62})\n"
    return choose + transaction


def deliveries(bench: Bench) -> Paths:
    """Adapters lease deliveries and finish them one by one."""
    yield Path(
        "deliveries",
        [Measure("deliveries", "deliveries/s")],
        ours=lambda: _deliver(bench),
        process=bench.register.process,
    )


def _deliver(bench: Bench) -> Run:
    with bench.cluster.connect(bench.register.database) as connection:
        most = round(_MOST_DELIVERIES_A_SECOND * bench.seconds)
        made = connection.execute(_MAKE_DELIVERIES, [most]).rowcount
        connection.execute("ANALYZE delivery")
        plans = [
            Calls(
                kind="deliver",
                address=bench.register.address,
                method="",
                requests=[(f"adapter/{adapter}", b"")],
                threads=_THREADS,
                seconds=bench.seconds,
            )
            for adapter in _ADAPTERS
        ]
        run = closed_loop.run("tests.bench.calls", plans, bench.folder, bench.watched(bench.register))
        left = bench.cluster.count(MAIN, "delivery")
        connection.execute("TRUNCATE delivery")
    if made - left != run.items + _CLIENTS:
        raise Failed(f"{run.items + _CLIENTS} deliveries finished, {made - left} gone")
    return run
