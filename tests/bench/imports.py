"""Import of the whole population, beside psql that copies the same rows into the same tables."""

import subprocess

from tests.bench import goals, population
from tests.bench.bench import Bench
from tests.bench.machine import in_the_servers_place, resident_megabytes
from tests.bench.processes import Failed
from tests.bench.register import EMPTY, MAIN, Register, serving
from tests.bench.runs import Measure, Path, Paths, Run, elapsed

_TABLES = ("person", "mailbox", "mailbox_change")


def imports(bench: Bench) -> Paths:
    """The population into an empty register."""
    floor, ours = "copied", "imported"
    for database in (floor, ours):
        bench.cluster.clone(EMPTY, database)
    for table in _TABLES:
        _psql(bench, MAIN, f"\\copy {table} TO '{bench.folder / table}' (FORMAT binary)\n")
    with serving(bench.cluster, ours, bench.folder / ours) as register:
        yield Path(
            "import",
            [
                Measure("import", "persons/s", goal=goals.IMPORT),
                Measure("  memory it took", "MB", lambda run: run.megabytes, compare=None),
            ],
            floor=lambda: _copy(bench, floor),
            ours=lambda: _import(bench, register),
            process=register.process,
        )
    for database in (floor, ours):
        bench.cluster.drop(database)


def _import(bench: Bench, register: Register) -> Run:
    _empty(bench, register.database)
    before = resident_megabytes(register.process)
    with elapsed(bench.watched(register)) as passed:
        loaded = population.load(register, bench.messages)
    after = resident_megabytes(register.process)
    if bench.cluster.count(register.database, "person") != loaded or loaded != bench.population.persons:
        raise Failed(f"{loaded} persons imported of {bench.population.persons}")
    bench.cluster.wait_for_recount(register.database)
    return Run(loaded, passed.seconds, cpu=passed.cpu, megabytes=after - before)


def _copy(bench: Bench, database: str) -> Run:
    _empty(bench, database)
    script = ["BEGIN;"]
    for table in _TABLES:
        script += [
            f"CREATE TEMPORARY TABLE staged_{table} (LIKE {table}) ON COMMIT DROP;",
            f"\\copy staged_{table} FROM '{bench.folder / table}' (FORMAT binary)",
            f"INSERT INTO {table} OVERRIDING SYSTEM VALUE TABLE staged_{table};",
        ]
    with elapsed({"database": bench.cluster.cpu_seconds}) as passed:
        _psql(bench, database, "\n".join([*script, "COMMIT;", "ANALYZE;", ""]))
    return Run(bench.cluster.count(database, "person"), passed.seconds, cpu=passed.cpu)


def _empty(bench: Bench, database: str) -> None:
    with bench.cluster.connect(database) as connection:
        connection.execute("TRUNCATE person, shared_recount, person_import CASCADE")
        connection.execute("CHECKPOINT")


def _psql(bench: Bench, database: str, script: str) -> None:
    address = bench.cluster.address(database)
    command = [bench.cluster.program("psql"), "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"]
    command += [f"--host={address['host']}", f"--username={address['user']}", database]
    with in_the_servers_place():
        done = subprocess.run(command, input=script, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"psql: {done.stderr[-1000:]}")
