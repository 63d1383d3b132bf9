"""The statements of most writes, in the order in which a write sends them.

What else a change may ask for (mailboxes, deliveries, messages) stands in mailbox_writes.py.
"""

from server.store.prepared import Statement

CLAIM_REQUEST = Statement(
    "claim_request",
    """
    INSERT INTO request (caller, request_id, body_hash) VALUES (%(caller)s, %(request_id)s, %(body_hash)s)
    ON CONFLICT DO NOTHING RETURNING request_id
    """,
)

FIRST_ANSWER = Statement(
    "first_answer",
    """
    SELECT body_hash, result, change_number, affected_count FROM request
    WHERE caller = %(caller)s AND request_id = %(request_id)s
    """,
)

CLAIM_REQUESTS = Statement(
    "claim_requests",
    # In one order everywhere, so that two who claim the same wait for each other and no more.
    """
    INSERT INTO request (caller, request_id, body_hash)
    SELECT %(caller)s, * FROM unnest(%(request_ids)s::uuid[], %(body_hashes)s::bytea[])
        AS given (request_id, body_hash) ORDER BY request_id
    ON CONFLICT DO NOTHING RETURNING request_id
    """,
)

FIRST_ANSWERS = Statement(
    "first_answers",
    """
    SELECT request_id, body_hash, result, change_number, affected_count FROM request
    WHERE caller = %(caller)s AND request_id = ANY(%(request_ids)s::uuid[])
    """,
)

_LOCKED_PERSON = """
    SELECT id, identifier, status, reserved, reservation_time, language, language_updated_time,
        email, email_updated_time, email_confirmed_time, email_validated_time, email_shared,
        mobile, mobile_updated_time, mobile_confirmed_time, mobile_validated_time, mobile_shared,
        change_number, deletion_reason
    FROM person
"""

LOCK_PERSON = Statement("lock_person", _LOCKED_PERSON + "    WHERE identifier = %(identifier)s FOR UPDATE\n")

LOCK_PERSONS = Statement(
    "lock_persons",
    _LOCKED_PERSON + "    WHERE identifier = ANY(%(identifiers)s::text[]) ORDER BY identifier FOR UPDATE\n",
)

MAILBOXES = Statement(
    "mailboxes",
    """
    SELECT operator, address, certificate, chosen, operator_state FROM mailbox WHERE person_id = %(person_id)s
    """,
)

MAILBOXES_OF_MANY = Statement(
    "mailboxes_of_many",
    """
    SELECT person_id, operator, address, certificate, chosen, operator_state FROM mailbox
    WHERE person_id = ANY(%(person_ids)s::bigint[])
    """,
)

NOTE_VALUES = Statement(
    "note_values",
    """
    INSERT INTO shared_recount (kind, digest)
    SELECT * FROM unnest(%(kinds)s::text[], %(digests)s::bytea[])
    """,
)

# In one statement, since the counter is locked from here on: so that others wait for it as
# briefly as can be. encoded begins with the change number, which nobody knows before.
_RECORD = """
    WITH counter AS (
        UPDATE register SET last_change_number = last_change_number + 1
        RETURNING register.last_change_number
    ), written AS (
        {write}
        RETURNING person.id
    ), noted AS (
        INSERT INTO history (person_id, change_number, changed_time, field, caller_kind)
        SELECT written.id, counter.last_change_number, %(now)s, field, %(caller_kind)s
        FROM written, counter, unnest(%(fields)s::text[]) AS field
    )
    SELECT written.id, counter.last_change_number FROM written, counter
"""

# A digest stays with its value: where code from before left a value without, the job that
# gives it one counts it then.
CHANGE_PERSON = Statement(
    "change_person",
    _RECORD.replace(
        "{write}",
        """
        UPDATE person SET
            status = %(status)s, reserved = %(reserved)s, reservation_time = %(reservation_time)s,
            language = %(language)s, language_updated_time = %(language_updated_time)s,
            email = %(email)s, email_updated_time = %(email_updated_time)s,
            email_confirmed_time = %(email_confirmed_time)s,
            email_validated_time = %(email_validated_time)s, email_shared = %(email_shared)s,
            email_digest = CASE WHEN email IS NOT DISTINCT FROM %(email)s
                THEN email_digest ELSE %(email_digest)s END,
            mobile = %(mobile)s, mobile_updated_time = %(mobile_updated_time)s,
            mobile_confirmed_time = %(mobile_confirmed_time)s,
            mobile_validated_time = %(mobile_validated_time)s, mobile_shared = %(mobile_shared)s,
            mobile_digest = CASE WHEN mobile IS NOT DISTINCT FROM %(mobile)s
                THEN mobile_digest ELSE %(mobile_digest)s END,
            deletion_reason = %(deletion_reason)s, change_number = counter.last_change_number,
            encoded = int8send(counter.last_change_number) || substr(%(encoded)s::bytea, 9)
        FROM counter WHERE person.identifier = %(identifier)s
        """,
    ),
)

ENTER_PERSON = Statement(
    "enter_person",
    _RECORD.replace(
        "{write}",
        """
        INSERT INTO person (
            identifier, status, reserved, reservation_time, language, language_updated_time,
            email, email_updated_time, email_confirmed_time, email_validated_time, email_shared,
            email_digest, mobile, mobile_updated_time, mobile_confirmed_time,
            mobile_validated_time, mobile_shared, mobile_digest, deletion_reason, change_number, encoded
        )
        SELECT
            %(identifier)s, %(status)s, %(reserved)s, %(reservation_time)s, %(language)s,
            %(language_updated_time)s, %(email)s, %(email_updated_time)s, %(email_confirmed_time)s,
            %(email_validated_time)s, %(email_shared)s, %(email_digest)s, %(mobile)s,
            %(mobile_updated_time)s, %(mobile_confirmed_time)s, %(mobile_validated_time)s,
            %(mobile_shared)s, %(mobile_digest)s, %(deletion_reason)s, last_change_number,
            int8send(last_change_number) || substr(%(encoded)s::bytea, 9)
        FROM counter
        """,
    ),
)

KEEP_ANSWER = Statement(
    "keep_answer",
    """
    UPDATE request
    SET result = %(result)s, change_number = %(change_number)s, affected_count = %(affected_count)s
    WHERE caller = %(caller)s AND request_id = %(request_id)s
    """,
)

KEEP_ANSWERS = Statement(
    "keep_answers",
    """
    UPDATE request
    SET result = answer.result, change_number = answer.change_number,
        affected_count = answer.affected_count
    FROM unnest(%(request_ids)s::uuid[], %(results)s::text[], %(change_numbers)s::bigint[],
        %(affected_counts)s::integer[]) AS answer (request_id, result, change_number, affected_count)
    WHERE request.caller = %(caller)s AND request.request_id = answer.request_id
    """,
)

# Of their rows nothing else differs.
CHANGE_MAILBOXES_OF_MANY = Statement(
    "change_mailboxes_of_many",
    """
    WITH written AS (
        UPDATE person SET change_number = new.number,
            encoded = int8send(new.number) || substr(new.encoded, 9)
        FROM unnest(%(ids)s::bigint[], %(numbers)s::bigint[], %(encoded)s::bytea[])
            AS new (id, number, encoded)
        WHERE person.id = new.id
    )
    INSERT INTO history (person_id, change_number, changed_time, field, caller_kind)
    SELECT entry.person_id, entry.number, %(now)s, entry.field, %(caller_kind)s
    FROM unnest(%(entry_ids)s::bigint[], %(entry_numbers)s::bigint[], %(entry_fields)s::text[])
        AS entry (person_id, number, field)
    """,
)
