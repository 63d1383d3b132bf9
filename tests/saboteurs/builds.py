"""Copies of the server with one fault each, made by exact replacement of its source."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from sqlalchemy import make_url

import server
from tests.server.process import serving


class Edit(NamedTuple):
    """In the file, below server/, the old text gives way to the new one."""

    file: str
    old: str
    new: str


# For all builds, the faultless one too: what happens every 10 seconds happens all the time.
HEAT = (Edit("feed.py", "HEARTBEAT_SECONDS = 10.0\n", "HEARTBEAT_SECONDS = 0.02\n"),)

FAULTS = {
    # Numbers are taken without a lock, and become visible in the order of the commits.
    "a sequence in place of the counter's row": (
        Edit(
            "store/write_statements.py",
            """\
        UPDATE register SET last_change_number = last_change_number + 1
        RETURNING register.last_change_number
""",
            "        SELECT nextval('naive_change_number') AS last_change_number\n",
        ),
        Edit(
            "store/transaction.py",
            """\
        last: int = self.connection.execute(
            update(table)
            .values(last_change_number=table.c.last_change_number + count)
            .returning(table.c.last_change_number)
        ).scalar_one()
        return range(last - count + 1, last + 1)
""",
            """\
        numbers = select(func.nextval("naive_change_number")).select_from(func.generate_series(1, count))
        return self.connection.scalars(numbers).all()
""",
        ),
        Edit(
            "store/transaction.py",
            "        return self.connection.scalar(select(tables.register.c.last_change_number)) or 0\n",
            """\
        return self.connection.exec_driver_sql("SELECT last_value FROM naive_change_number").scalar()
""",
        ),
        Edit(
            "store/encoded_reads.py",
            '"SELECT last_change_number FROM register"',
            '"SELECT last_value FROM naive_change_number"',
        ),
    ),
    # What is committed between the page's statement and the counter's is never sent.
    "the cursor is the counter, read after the page": (
        Edit(
            "register_service.py",
            "            persons, last, caught_up = reader.changed(after, page_size)\n",
            """\
            persons, last, caught_up = reader.changed(after, page_size)
            last = reader.last_change_number() if caught_up else last
""",
        ),
    ),
    # The same, and only where there is nothing to send.
    "a heartbeat's cursor is the counter": (
        Edit(
            "register_service.py",
            "            persons, last, caught_up = reader.changed(after, page_size)\n",
            """\
            persons, last, caught_up = reader.changed(after, page_size)
            last = last if persons else reader.last_change_number()
""",
        ),
    ),
}
# What the sequence takes the numbers from; there in every build's database.
_SEQUENCE = "CREATE SEQUENCE naive_change_number"

# Of what operators are promised: each with the check that must find it.
BROKEN_PROMISES: dict[str, tuple[str, tuple[Edit, ...]]] = {
    "forgets what was answered": (
        "stream.same-event-again",
        (Edit("store/transaction.py", "        if not known:\n", "        if known:\n"),),
    ),
    "takes an id with another body for the first": (
        "stream.event-id-reused",
        (
            Edit(
                "store/transaction.py",
                'if first["body_hash"] == given[first["request_id"]]\n            else None',
                "if first\n            else None",
            ),
        ),
    ),
    "applies what is outdated": (
        "stream.outdated",
        (
            Edit(
                "store/mailbox_events.py",
                "Refusal(Reason.OUTDATED) if is_outdated(event) else outcome for",
                "outcome for",
            ),
        ),
    ),
    "acknowledges in another order": (
        "stream.acknowledged-in-order",
        (
            Edit(
                "mailbox_events.py",
                "        return response\n",
                "        return pb.PushEventsResponse(acknowledgements=response.acknowledgements[::-1])\n",
            ),
        ),
    ),
    "takes another operator's place": (
        "feed.of-another-operator",
        (
            Edit(
                "domain/person.py",
                """\
        if self.chosen is not None:
            raise Refusal(Reason.ALREADY_CHOSEN)
        return self.choose_mailbox(operator)
""",
                "        return self.choose_mailbox(operator)\n",
            ),
        ),
    ),
    "ends the stream at an event that makes no sense": (
        "stream.poison-stops-nothing",
        (
            Edit(
                "mailbox_events.py",
                'return Reported(event.event_id, None, "MAILBOX_RESULT_INVALID_EVENT")',
                "raise",
            ),
        ),
    ),
}


def _build(folder: Path, edits: tuple[Edit, ...]) -> None:
    """Copy the server into the folder, edited; to be run there.

    Fails where the source no longer holds an old text exactly once: then the edit must follow it.
    """
    source = Path(server.__file__).parent
    shutil.copytree(source, folder / "server", ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        file = folder / "server" / edit.file
        text = file.read_text()
        assert text.count(edit.old) == 1, f"{edit.file} no longer holds what the edit replaces:\n{edit.old}"
        file.write_text(text.replace(edit.old, edit.new))


@contextmanager
def running(folder: Path, database_url: str, edits: tuple[Edit, ...]) -> Iterator[str]:
    """Address of a server built so, on a database of its own."""
    _build(folder, edits)
    url = make_url(database_url)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname=url.database) as connection:
        connection.execute(_SEQUENCE)
    # `python -m` looks into the current folder first.
    with contextlib.chdir(folder):
        where = [sys.executable, "-c", "import server; print(server.__file__)"]
        found = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
        assert found == str(folder / "server" / "__init__.py")
        with serving(folder / "run", database_url, test_accept_unsafe_postgresql="true") as process:
            yield process.address
