"""One-time codes: which were sent, and how often they were tried."""

import hmac
import uuid
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import text

from server.domain.contact import ContactKind
from server.domain.errors import Reason, Refusal
from server.domain.message import CHANNEL_TO, MessageKind, NewMessage
from server.domain.person import Language, Person
from server.domain.verification import (
    CODE_LIFETIME,
    TRIES_COUNTED_FOR,
    SentCode,
    WaitingCode,
    judge_try,
    wait_before_code,
)
from server.store.message_writes import Addressed, write_messages
from server.store.prepared import Statement
from server.store.transaction import Transaction

# Longer than anything that is counted.
KEEP_CODES = timedelta(days=2)

# Persons who share an address or number may ask at once: each must see what the others were sent.
_IN_TURN = Statement(
    "ask_for_code_in_turn",
    "SELECT pg_advisory_xact_lock(hashtextextended(encode(%(value_digest)s::bytea, 'hex'), 0))",
)

_READ_SENT = Statement(
    "read_sent_codes",
    """
    SELECT created_time AS created, wrong_tries, now() AS now,
        person_id = %(person_id)s::bigint AND contact_kind = %(contact_kind)s::text AS to_point,
        value_digest = %(value_digest)s::bytea AS to_value, person_id = %(person_id)s::bigint AS of_person
    FROM verification_code
    WHERE (person_id = %(person_id)s::bigint OR value_digest = %(value_digest)s::bytea)
      AND created_time > now() - %(counted_for)s::interval
    """,
)

_END_EARLIER = Statement(
    "end_earlier_codes",
    """
    UPDATE verification_code SET ended_time = now()
    WHERE person_id = %(person_id)s AND contact_kind = %(contact_kind)s AND ended_time IS NULL
    """,
)

_ENTER_CODE = Statement(
    "enter_code",
    """
    INSERT INTO verification_code (id, person_id, contact_kind, value_digest, created_time, expires_time)
    VALUES (%(id)s, %(person_id)s, %(contact_kind)s, %(value_digest)s, now(), now() + %(lifetime)s::interval)
    """,
)

_READ_TRIED = Statement(
    "read_tried_codes",
    """
    SELECT code.id, code.contact_kind, code.expires_time, code.wrong_tries,
        code.ended_time IS NOT NULL AS ended, message.recipient, now() AS now
    FROM verification_code AS code LEFT JOIN message ON message.id = code.id
    WHERE code.person_id = %(person_id)s AND code.created_time > now() - %(counted_for)s::interval
    ORDER BY code.created_time DESC
    """,
)

_COUNT_WRONG_TRY = Statement(
    "count_wrong_try", "UPDATE verification_code SET wrong_tries = wrong_tries + 1 WHERE id = %(id)s"
)

_END_CODE = Statement("end_code", "UPDATE verification_code SET ended_time = now() WHERE id = %(id)s")

_FORGET_OLD = text("""
    DELETE FROM verification_code WHERE id IN (
        SELECT id FROM verification_code WHERE created_time < now() - :age LIMIT 10000)
""")


def send_code(transaction: Transaction, person: Person, kind: ContactKind, value_digest: bytes) -> None:
    """Have a code sent to the contact point, in place of an earlier one.

    person: locked by the transaction, and with that contact point.
    value_digest: of the address or number in the form in which values are compared.

    Raises Refusal: CODE_TOO_SOON, with the time to wait.
    """
    run, person_id = transaction.run, transaction.row_id(person.identifier)
    run(_IN_TURN, value_digest=value_digest)
    to_point = {"person_id": person_id, "contact_kind": kind.value}
    sent = run(_READ_SENT, **to_point, value_digest=value_digest, counted_for=TRIES_COUNTED_FOR)
    if sent:
        now = sent[0]["now"]
        wait = wait_before_code(
            now, [SentCode(**{name: row[name] for name in row if name != "now"}) for row in sent]
        )
        if wait > timedelta():
            raise Refusal(Reason.CODE_TOO_SOON, retry_after=wait)
    run(_END_EARLIER, **to_point)
    code_id = uuid.uuid4()
    run(_ENTER_CODE, id=code_id, **to_point, value_digest=value_digest, lifetime=CODE_LIFETIME)
    message = NewMessage(
        kind=MessageKind.VERIFICATION_CODE,
        channel=CHANNEL_TO[kind],
        language=person.language or Language.NB,
        recipient=person.contacts[kind].value,
        contact_kind=kind,
    )
    write_messages(run, [Addressed(person_id, message, id=code_id)])


def try_code(
    transaction: Transaction,
    person: Person,
    kind: ContactKind,
    given: str,
    code_of: Callable[[uuid.UUID, str], str],
) -> bool:
    """Whether the code proves the contact point; if so it is used up, else the try is counted, and the
    transaction must be committed for it.

    person: locked by the transaction, and with that contact point.
    given: in ASCII.
    code_of: from the message's id and the address or number to the code.

    Raises Refusal: CODE_EXPIRED.
    """
    tried = transaction.run(
        _READ_TRIED, person_id=transaction.row_id(person.identifier), counted_for=TRIES_COUNTED_FOR
    )
    row = next((each for each in tried if each["contact_kind"] == kind), None)
    if row is None:
        raise Refusal(Reason.CODE_EXPIRED)
    value = person.contacts[kind].value
    # Whatever else is the matter with it, so that the time tells nothing of the code.
    is_right = hmac.compare_digest(code_of(row["id"], value), given)
    verdict = judge_try(
        row["now"],
        WaitingCode(row["recipient"], row["expires_time"], row["wrong_tries"], row["ended"]),
        value,
        sum(each["wrong_tries"] for each in tried),
        is_right=is_right,
    )
    if verdict is Reason.CODE_EXPIRED:
        raise Refusal(Reason.CODE_EXPIRED)
    transaction.run(_COUNT_WRONG_TRY if verdict else _END_CODE, id=row["id"])
    return verdict is None


def forget_old_codes(transaction: Transaction) -> int:
    """Delete up to 10,000 codes that count no more; how many."""
    return transaction.connection.execute(_FORGET_OLD, {"age": KEEP_CODES}).rowcount
