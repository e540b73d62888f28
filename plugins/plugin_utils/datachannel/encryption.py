# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of payloads with a data key of AWS KMS.

The key has 64 bytes: the first half encrypts from agent to client, the second half from client to agent. A payload is
a nonce of 12 bytes and then AES-GCM with its tag of 16.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 64
_NONCE_BYTES: Final = 12
OVERHEAD: Final = _NONCE_BYTES + 16


class EncryptionError(Exception):
    """A key that cannot be used, or a payload that was not encrypted with it."""


class SessionCipher:
    """Encrypts what the client sends and decrypts what the agent sent."""

    def __init__(self, data_key: bytes) -> None:
        if len(data_key) != KEY_BYTES:
            raise EncryptionError(f"the data key has {len(data_key)} bytes and should have {KEY_BYTES}")
        try:
            # Few sessions are encrypted; the others need not pay for the import, nor have the library.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as exc:
            raise EncryptionError("sessions encrypted with KMS need the Python package cryptography on the controller") from exc
        self._from_agent: AESGCM = AESGCM(data_key[: KEY_BYTES // 2])
        self._to_agent: AESGCM = AESGCM(data_key[KEY_BYTES // 2 :])

    def encrypt(self, plaintext: bytes) -> bytes:
        """A payload for the agent."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._to_agent.encrypt(nonce, plaintext, None)

    def decrypt(self, payload: bytes) -> bytes:
        """What the agent encrypted; raises :class:`EncryptionError`."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._from_agent.decrypt(payload[:_NONCE_BYTES], payload[_NONCE_BYTES:], None)
        except (InvalidTag, ValueError) as exc:
            raise EncryptionError("a payload of the agent was not encrypted with this session's key") from exc
