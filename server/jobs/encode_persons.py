"""Makes persons ready to be sent who are not: those of a register from before, and those that
servers of the version before write while they are being replaced.

Until then they are read by their plain rows, which is slower and says the same. A person is
encoded under the lock on its row, so that no change comes between the reading and the writing.
"""

from functools import partial

from server.domain.caller import Caller, CallerKind
from server.encoded_person import encode_person
from server.jobs.background import Background
from server.store.store import Store
from server.store.transaction import Transaction
from server.store.unencoded import give_encoded

# In one transaction: writes of these persons wait while it goes on.
_PERSONS = 500

_IDLE_SECONDS = 1.0

_REGISTER = Caller(CallerKind.REGISTER, "encode")


def encode_persons(store: Store) -> Background:
    """The job, to be started. Any number of servers may run it on one database at once."""
    return Background("encode-persons", partial(encode_some, store), idle_seconds=_IDLE_SECONDS)


def encode_some(store: Store, deadline: float) -> bool:
    """Do one step; returns whether there may be more to do at once.

    deadline: on time.monotonic().

    Raises Refusal: DEADLINE, CONFLICT, DATABASE_UNAVAILABLE. Nothing is lost: call it again.
    """

    def do(transaction: Transaction) -> int:
        return give_encoded(transaction.connection, encode_person, _PERSONS)

    return store.write(_REGISTER, do, deadline=deadline) == _PERSONS
