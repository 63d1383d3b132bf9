"""The epoch of the register's change numbers: whether it still holds, and who decides if not.

    python -m server epoch show    where the register stands, and whether the server would start
    python -m server epoch keep    nothing was lost: cursors stay good
    python -m server epoch new     changes may be lost: readers start again

A restored database may give change numbers out again that were served for other changes, and
readers beyond them would skip those. So the server refuses to start on a database that is
not the one that it served last, or that is behind its witness, until a human decides.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection, NullPool, create_engine

from server.config import Settings
from server.store.epoch import (
    RestoredDatabase,
    Standing,
    begin_epoch,
    lock_standing,
    note_identity,
    read_standing,
)
from server.store.schema import check_schema
from server.witness import BrokenWitness, Witness, Witnessed

# A register that hangs must not make these hang.
_SESSION = "-c lock_timeout=10s -c statement_timeout=15s -c application_name=krr-epoch"


def open_epoch(connection: Connection, witness: Witness) -> Standing:
    """Where the register stands, for a server that starts; its PostgreSQL is noted and its
    witness made where missing. The caller commits.

    Raises RestoredDatabase where a human must decide, BrokenWitness and StandbyDatabase.
    """
    # Before the database: another server may be raising both, and the witness is the later one.
    witnessed = witness.read()
    standing = read_standing(connection)
    why = why_not(standing, witnessed)
    if why is not None:
        raise RestoredDatabase(f"{why} The witness is {witness.path}.")
    if standing.noted is None:
        note_identity(connection, standing.found)
        standing = replace(standing, noted=standing.found)
    witness.write(standing.epoch, standing.last_change_number)
    return standing


def why_not(standing: Standing, witnessed: Witnessed | None) -> str | None:
    """Why no server may start on the register as it stands, and what to decide; None where one may.

    witnessed: what the witness held before the standing was read.
    """
    return _lost(standing, witnessed) or _moved(standing)


def why_end(seen: Standing, now: Standing) -> str | None:
    """Why a server that has seen the register so must end; None where it may go on.

    It says nothing of what to decide: a server that starts next does, or somebody has decided.
    """
    if now.epoch != seen.epoch:
        found = f"its epoch is {now.epoch} and was {seen.epoch}"
    elif now.last_change_number < seen.last_change_number:
        found = f"its last change number is {now.last_change_number} and was {seen.last_change_number}"
    elif now.noted != now.found:
        found = f"it is {now.found} and was {seen.found}"
    else:
        return None
    return f"The database is another one than before: {found}. Start the server again."


def show(settings: Settings) -> None:
    """Print where the register stands.

    Raises RestoredDatabase or BrokenWitness where the server would refuse to start.
    """
    witness = Witness(settings.witness_file)
    witnessed, broken = None, None
    try:
        witnessed = witness.read()
    except BrokenWitness as error:
        broken = error
    with transaction(settings) as connection:
        standing = read_standing(connection)
    noted = standing.noted or "none yet: the next start notes it"
    if witnessed is not None:
        held = f"epoch {witnessed.epoch}, change number {witnessed.last_change_number}"
    else:
        held = "not readable" if broken else "none yet: the next start makes it"
    _print(
        f"epoch               {standing.epoch}",
        f"last change number  {standing.last_change_number}",
        f"served last from    {noted}",
        f"this database       {standing.found}",
        f"witness             {held}",
        f"witness file        {witness.path}",
    )
    if broken is not None:
        raise broken
    why = why_not(standing, witnessed)
    if why is not None:
        raise RestoredDatabase(why)
    _print("good: the server starts, there is nothing to decide")


def keep(settings: Settings) -> None:
    """Decide that nothing was lost: the database at hand is the register from now on, in the
    same epoch. Again does no harm.

    Raises RestoredDatabase where the witness knows better, BrokenWitness and StandbyDatabase.
    """
    witness = Witness(settings.witness_file)
    witnessed = witness.read()
    with transaction(settings) as connection:
        standing = lock_standing(connection)
        why = _lost(standing, witnessed)
        if why is not None:
            raise RestoredDatabase(f"Not kept. {why} The witness is {witness.path}.")
        note_identity(connection, standing.found)
    _print(f"kept: epoch {standing.epoch} at change number {standing.last_change_number}, {standing.found}")


def new(settings: Settings) -> None:
    """Decide that changes may be lost: the register begins a new epoch, and every reader of its
    feeds starts again. Again begins another one.

    The database comes first. Killed before its commit, nothing happened; killed after it, the
    witness is of another epoch than the database, so the server refuses to start, until this
    ran again. Raises BrokenWitness where the new witness cannot be written, StandbyDatabase.
    """
    witness = Witness(settings.witness_file)
    try:
        witnessed = witness.read()
    except BrokenWitness:
        # What it held is gone; this decision is what makes up for it.
        witnessed = None
    with transaction(settings) as connection:
        standing = lock_standing(connection)
        after = witnessed.last_change_number if witnessed else 0
        epoch, number = begin_epoch(connection, standing.found, after=after)
    witness.replace(epoch, number)
    _print(f"new: epoch {epoch} from change number {number}, {standing.found}; readers start again")


def _lost(standing: Standing, witnessed: Witnessed | None) -> str | None:
    if witnessed is None:
        return None
    if witnessed.epoch != standing.epoch:
        return (
            f"The database is of another epoch than its witness ({standing.epoch}, not {witnessed.epoch}): "
            "bring back the right one of the two; or remove the witness where `krr epoch new` ran on "
            "another machine; or decide with `krr epoch new` (changes may be lost: readers start again)."
        )
    if witnessed.last_change_number > standing.last_change_number:
        return (
            f"The database was restored and changes are lost (its last change number is "
            f"{standing.last_change_number}, and {witnessed.last_change_number} was served): bring back "
            "the newer one, or decide with `krr epoch new` (readers start again)."
        )
    return None


def _moved(standing: Standing) -> str | None:
    if standing.noted in (None, standing.found):
        return None
    return (
        f"The database was restored or failed over (served last from {standing.noted}; this is "
        f"{standing.found}): decide with `krr epoch keep` (nothing was lost: cursors stay good) or "
        "`krr epoch new` (changes may be lost: readers start again)."
    )


@contextmanager
def transaction(settings: Settings) -> Iterator[Connection]:
    """A transaction on a database whose schema is the one that the code knows. Raises UnsafeDatabase."""
    engine = create_engine(
        settings.database_url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"options": _SESSION, "connect_timeout": 10},
    )
    with engine.begin() as connection:
        check_schema(connection)
        yield connection


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()
