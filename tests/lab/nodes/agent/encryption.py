# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Encryption of a session by a KMS data key (PROTOCOL.md, "KMS")."""

from __future__ import annotations

import base64
import os

from .service import Service
from .signing import Credentials

_KEY = 32  #: bytes of each direction's key
_NONCE = 12


class Cipher:
    """AES-GCM in both directions: the first half of the data key encrypts what the agent sends."""

    def __init__(self, data_key: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._encrypt = AESGCM(data_key[:_KEY])
        self._decrypt = AESGCM(data_key[_KEY:])
        self._nonce = int.from_bytes(os.urandom(_NONCE), "little")

    def encrypt(self, data: bytes) -> bytes:
        nonce = self._nonce.to_bytes(_NONCE, "little")
        self._nonce = (self._nonce + 1) % (1 << 8 * _NONCE)
        return nonce + self._encrypt.encrypt(nonce, data, None)

    def decrypt(self, data: bytes) -> bytes:
        """Raises cryptography.exceptions.InvalidTag."""
        return self._decrypt.decrypt(data[:_NONCE], data[_NONCE:], None)


def new_challenge() -> str:
    """The random part of the encryption context, in base64."""
    return base64.b64encode(os.urandom(16)).decode()


def decrypted_key(
    service: Service,
    credentials: Credentials,
    *,
    key_id: str,
    ciphertext: str,
    session_id: str,
    challenge: str | None,
) -> bytes:
    """Ask KMS for the data key of which the client sent the ciphertext (base64). Raises ServiceError."""
    context = {"aws:ssm:SessionId": session_id, "aws:ssm:TargetId": service.config.node_id}
    if challenge is not None:
        context["aws:ssm:RandomChallenge"] = challenge
    answer = service.call(
        "TrentService.Decrypt",
        {"CiphertextBlob": ciphertext, "EncryptionContext": context, "KeyId": key_id},
        credentials,
        service="kms",
    )
    return base64.b64decode(answer["Plaintext"])
