# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The payload of an ``acknowledge`` message: which stream message has arrived.

Each stream message is acknowledged by one of these; there is no cumulative form.
"""

from __future__ import annotations

import json

from .message import MalformedMessage


def acknowledgement_of(message_type: str, sequence: int, message_id: bytes) -> bytes:
    """The payload that acknowledges a message, byte for byte as the client of AWS writes it."""
    text = message_id.hex()
    return (
        f'{{"AcknowledgedMessageType":"{message_type}",'
        f'"AcknowledgedMessageId":"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}",'
        f'"AcknowledgedMessageSequenceNumber":{sequence},"IsSequentialMessage":true}}'
    ).encode("ascii")


def acknowledged_sequence(payload: bytes) -> int:
    """The sequence number that an acknowledgement names; raises :class:`MalformedMessage`."""
    try:
        sequence = json.loads(payload)["AcknowledgedMessageSequenceNumber"]
    except (ValueError, KeyError, TypeError) as exc:
        raise MalformedMessage("an acknowledgement without a sequence number") from exc
    if not isinstance(sequence, int):
        raise MalformedMessage("an acknowledgement whose sequence number is no number")
    return sequence
