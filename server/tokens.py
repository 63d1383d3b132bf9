"""Cursors and freshness tokens: opaque outside, a change number and its epoch inside."""

import base64
import binascii
import struct
import uuid
import zlib

from server.domain.errors import InvalidValue, Reason, Refusal

_LAYOUT = struct.Struct(">c16sQ")
_CHECKSUM = struct.Struct(">I")
_CURSOR, _MAILBOX_CURSOR, _FRESHNESS, _PAGE = b"c", b"m", b"f", b"p"


class Tokens:
    """Makes and reads the tokens of one epoch.

    The kind is part of a token, so that none can be given in place of another. Reading
    raises InvalidValue INVALID_TOKEN for what was never given out, and Refusal FEED_RESET
    for a token of another epoch.
    """

    def __init__(self, epoch: uuid.UUID) -> None:
        self._epoch = epoch.bytes

    def cursor(self, change_number: int) -> str:
        """A reader of the feed has everything up to and including the change number."""
        return self._make(_CURSOR, change_number)

    def read_cursor(self, token: str) -> int:
        """The change number of a cursor; 0, the start, for an empty one."""
        return self._read(_CURSOR, token, "after_cursor") if token else 0

    def mailbox_cursor(self, change_number: int) -> str:
        """An operator has everything about its mailboxes up to and including the change number."""
        return self._make(_MAILBOX_CURSOR, change_number)

    def read_mailbox_cursor(self, token: str) -> int:
        """The change number of an operator's cursor; 0, the start, for an empty one."""
        return self._read(_MAILBOX_CURSOR, token, "after_cursor") if token else 0

    def freshness(self, change_number: int) -> str:
        """A read must see the change number."""
        return self._make(_FRESHNESS, change_number)

    def read_freshness(self, token: str) -> int:
        """The change number of a freshness token; 0, anything goes, for an empty one."""
        return self._read(_FRESHNESS, token, "at_least_as_fresh") if token else 0

    def page(self, last: int) -> str:
        """A page of a list ended with the row of this number."""
        return self._make(_PAGE, last)

    def read_page(self, token: str) -> int | None:
        """The number of a page token; None, the first page, for an empty one."""
        return self._read(_PAGE, token, "page_token") if token else None

    def _make(self, kind: bytes, number: int) -> str:
        body = _LAYOUT.pack(kind, self._epoch, number)
        return base64.urlsafe_b64encode(body + _CHECKSUM.pack(zlib.crc32(body))).decode()

    def _read(self, kind: bytes, token: str, field: str) -> int:
        invalid = InvalidValue(Reason.INVALID_TOKEN, field)
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise invalid from None
        body, checksum = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
        if len(body) != _LAYOUT.size or checksum != _CHECKSUM.pack(zlib.crc32(body)):
            raise invalid
        found_kind, epoch, number = _LAYOUT.unpack(body)
        if found_kind != kind or number >= 2**63:
            raise invalid
        if epoch != self._epoch:
            raise Refusal(Reason.FEED_RESET)
        return int(number)
