"""What a message centre says of a message in a deliver_sm (SMPP 3.4, section 5.2.12 and appendix B)."""

import re
from typing import Any

from krr.v1 import delivery_service_pb2 as pb

GATEWAY = "SMPP"

_MESSAGE_TYPE, _IS_RECEIPT = 0x3C, 0x04

# message_state, and as appendix B has it in text. The rest (ENROUTE, ACCEPTD, UNKNOWN) is not final.
_DELIVERED = "DELIVRD"
_STATES = {2: _DELIVERED, 3: "EXPIRED", 4: "DELETED", 5: "UNDELIV", 8: "REJECTD"}

_TEXT_ID = re.compile(rb"\bid: ?([!-~]{1,100})(?= |$)", re.IGNORECASE)
_TEXT_STATE = re.compile(rb"\bstat: ?([A-Z]{1,7})\b", re.IGNORECASE)


def is_receipt(deliver_sm: Any) -> bool:
    """Whether it is a receipt, and not somebody's own message."""
    return (deliver_sm.esm_class or 0) & _MESSAGE_TYPE == _IS_RECEIPT


def receipt_from(deliver_sm: Any) -> pb.RecordReceiptRequest | None:
    """What to record; None where it is not final, or says nothing that is understood.

    Parameters go before the text, which not every centre writes as the appendix has it. The id is
    taken as it stands: of a centre that says it in hexadecimal in its answer and in decimal in its
    receipts, no receipt is understood.
    """
    text: bytes = deliver_sm.short_message or deliver_sm.message_payload or b""
    its_id: bytes = (deliver_sm.receipted_message_id or b"").rstrip(b"\0")
    if not its_id and (found := _TEXT_ID.search(text)):
        its_id = found[1]
    state = _STATES.get(deliver_sm.message_state or 0)
    if deliver_sm.message_state is None and (found := _TEXT_STATE.search(text)):
        state = found[1].decode().upper()
    if state not in _STATES.values() or not re.fullmatch(rb"[!-~]{1,100}", its_id):
        return None
    receipt = pb.RecordReceiptRequest(
        gateway_message=pb.GatewayMessage(gateway=GATEWAY, gateway_message_id=its_id.decode())
    )
    if state == _DELIVERED:
        receipt.delivered.SetInParent()
    else:
        receipt.failed.error_code = f"{GATEWAY}_{state}"
    return receipt
