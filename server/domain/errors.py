"""What the register says no to, and why.

Refusal            any no; carries one Reason
└── InvalidValue   a value in the request is to blame; names the field
"""

from datetime import timedelta
from enum import Enum


class Reason(Enum):
    """Why. Names equal those of the contract's ErrorReason or MailboxResult; the value is
    what the caller is told, and holds nothing about a person."""

    INVALID_IDENTIFIER = "not a fødselsnummer or D-number"
    SYNTHETIC_IDENTIFIER = "this register takes no synthetic identifiers"
    INVALID_EMAIL = "not an e-mail address"
    INVALID_MOBILE = "not a phone number that can exist"
    PREMIUM_RATE_NUMBER = "a premium-rate number cannot be a citizen's mobile"
    SHORT_NUMBER = "a short number cannot be a citizen's mobile"
    MACHINE_NUMBER = "a number for machines cannot be a citizen's mobile"
    SATELLITE_NUMBER = "a satellite or other number without a country cannot be a citizen's mobile"
    NOT_A_MOBILE = "not a mobile number"
    INVALID_ORGANISATION_NUMBER = "not an organisation number"
    UNKNOWN_OPERATOR = "not a mailbox operator of this register"
    INVALID_MAILBOX_ADDRESS = "a mailbox address is 8 to 100 printable characters"
    INVALID_CERTIFICATE = "not an X.509 certificate in DER"
    INVALID_REQUEST_ID = "not a UUID"
    INVALID_FIELD = "the value is not allowed"
    BATCH_SIZE = "too few or too many items"
    INVALID_TOKEN = "this register never gave out that token"

    CREDENTIAL_MISSING = "the call carries no credential"
    CREDENTIAL_REFUSED = "the credential is not accepted"
    CALLER_NOT_ALLOWED = "this kind of caller may not call this method"
    OTHER_PERSON = "the citizen in the request is not the caller"

    PERSON_NOT_FOUND = "the person is not in the register"
    ALREADY_REGISTERED = "the person is in the register already"
    RESERVED = "the person is reserved"
    NO_MAILBOX = "the person has no mailbox at that operator"
    CONTACT_MISSING = "the person has not the e-mail or mobile that this needs"
    ALREADY_CHOSEN = "a mailbox is chosen already"
    MAILBOX_EXISTS = "the operator's mailbox stands here with other data"
    OUTDATED = "an event with this sequence or a later one was applied already"
    CHANGED_SINCE = "the person has changed since; read again"
    REQUEST_ID_REUSED = "the request id was used for another request"

    AHEAD_OF_REGISTER = "the token is ahead of this register"
    FEED_RESET = "the token belongs to an earlier epoch of this register; read from the start"

    LEASE_LOST = "the lease ran out or is not yours"
    UNKNOWN_RECEIPT = "no message waits for this receipt"

    DEADLINE = "the deadline passed, or leaves too little time"
    CONFLICT = "other writes kept getting in the way; nothing was done"
    DATABASE_UNAVAILABLE = "the database is away; repeat with the same request id"
    INTERNAL = "a fault in the register"

    TOO_MANY_STREAMS = "the server bears no more callers who watch, wait or stream"
    SERVER_ENDING = "the server is being replaced; call again"

    UNKNOWN_IMPORT = "no import has this id"
    IMPORT_FINISHED = "the import is finished and takes no more rows"
    DUPLICATE_ROW = "an earlier row of the import has the same identifier"

    CERTIFICATE_KEY_TOO_WEAK = "the key is neither RSA of at least 2048 bits nor EC of 256"
    CERTIFICATE_EXPIRED = "the certificate's validity has ended"
    CERTIFICATE_NOT_FOR_ENCRYPTION = "the certificate's key usage does not allow encryption"
    CERTIFICATE_OF_ANOTHER = "the certificate's subject has not this organisation number, or another too"
    CERTIFICATE_RETIRED = "the certificate was retired; enter another one"
    UNKNOWN_CERTIFICATE = "no certificate has this id"

    UNKNOWN_SWEEP = "no sweep has this id"

    CODE_WRONG = "not the code that was sent"
    CODE_EXPIRED = "no code waits for this contact point; ask for another one"
    CODE_TOO_SOON = "a code was sent just now, or too many were sent today"

    UNKNOWN_CAMPAIGN = "no campaign has this id"
    CAMPAIGN_STATE = "the campaign does not stand where this can be done"


class Refusal(Exception):
    """The register says no; the caller is told the reason.

    retry_after: when the same may be asked again, where the refusal itself knows.
    """

    def __init__(self, reason: Reason, retry_after: timedelta | None = None) -> None:
        super().__init__(reason.name)
        self.reason = reason
        self.retry_after = retry_after


class InvalidValue(Refusal):
    """A value in the request is not allowed.

    field: its path in the request, such as "email"; empty until the one who knows it sets it.
    description: what is allowed there; never the value itself.
    """

    def __init__(self, reason: Reason, field: str = "", description: str = "") -> None:
        super().__init__(reason)
        self.field = field
        self.description = description or reason.value
