"""Reminders in the words of the contract, for the staff."""

from collections.abc import Sequence
from datetime import datetime

from krr.v1 import delivery_service_pb2, reminder_pb2

from server import translate
from server.call import Call
from server.domain.rules import MAX_BATCH
from server.store.reminders import ReminderBatch, count_persons, remind_batch
from server.store.store import Store
from server.store.transaction import Transaction
from server.tokens import Tokens


def remind_stale_contact(
    request: reminder_pb2.RemindStaleContactRequest,
    store: Store,
    tokens: Tokens,
    call: Call,
    now: datetime,
    steps: Sequence[int],
) -> reminder_pb2.RemindStaleContactResponse:
    """Remind one batch of persons, or only count them.

    steps: in months, rising.

    Raises InvalidValue: BATCH_SIZE or INVALID_TOKEN; Refusal: as Store.write does.
    """
    limit = translate.count_from("max_persons", request.max_persons, most=MAX_BATCH, default=MAX_BATCH)
    after = tokens.read_page(request.page_token) or 0

    def do(transaction: Transaction) -> tuple[ReminderBatch, int]:
        batch = remind_batch(transaction, now, steps, after=after, limit=limit, dry_run=request.dry_run)
        return batch, 0 if request.page_token else count_persons(transaction)

    batch, persons = store.write(call.caller, do, deadline=call.deadline)
    return reminder_pb2.RemindStaleContactResponse(
        examined_count=batch.examined,
        person_count=persons,
        reminders=[
            reminder_pb2.ReminderCount(
                step_months=months,
                channel=delivery_service_pb2.Channel.Value(f"CHANNEL_{channel}"),
                count=count,
            )
            for (months, channel), count in sorted(batch.written.items())
        ],
        not_reminded=[
            reminder_pb2.NotRemindedCount(
                reason=reminder_pb2.NotRemindedReason.Value(f"NOT_REMINDED_REASON_{reason}"), count=count
            )
            for reason, count in sorted(batch.not_reminded.items())
        ],
        next_page_token="" if batch.last is None else tokens.page(batch.last),
    )
