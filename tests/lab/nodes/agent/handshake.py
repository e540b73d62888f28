# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The handshake of a session: what kind it is, and encryption. The agent waits 15 s for each answer."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from typing import Any

from .datachannel import DataChannel, Taken
from .document import PORT, SessionOrder
from .encryption import Cipher, decrypted_key, new_challenge
from .identity import stored_credentials
from .message import (
    CHALLENGE_REQUEST,
    CHALLENGE_RESPONSE,
    HANDSHAKE_COMPLETE,
    HANDSHAKE_REQUEST,
    HANDSHAKE_RESPONSE,
    Message,
)
from .service import Service

_TIMEOUT = 15.0
_SUCCESS = 1
_TOO_OLD = (1, 2, 295)  #: clients up to this version do not know separate output


class HandshakeError(ConnectionError):
    """The client did not answer, or not rightly."""


class Handshake:
    """Performs the handshake over a channel; takes its input messages until done."""

    def __init__(self, service: Service, channel: DataChannel, order: SessionOrder) -> None:
        self._service, self._channel, self._order = service, channel, order
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._challenge = new_challenge()
        self._cipher: Cipher | None = None

    async def perform(self) -> Cipher | None:
        """The cipher of an encrypted session, else None. Raises HandshakeError, ServiceError."""
        started = time.monotonic_ns()
        self._channel.on_input = self._take
        self._send(HANDSHAKE_REQUEST, self._request())
        response = await self._answer(
            HANDSHAKE_RESPONSE,
            "Handshake timed out. Please ensure that you have the latest version of the session manager plugin.",
        )
        for action in response.get("ProcessedClientActions") or ():
            if action.get("ActionStatus") != _SUCCESS:
                raise HandshakeError(f"{action.get('ActionType')} failed on client: {action.get('Error')}")
            if action.get("ActionType") == "KMSEncryption":
                self._cipher = self._new_cipher(action["ActionResult"])
        if self._encrypted:
            await self._confirm()
        self._send(
            HANDSHAKE_COMPLETE,
            {
                "HandshakeTimeToComplete": time.monotonic_ns() - started,
                "CustomerMessage": self._customer_message(str(response.get("ClientVersion"))),
            },
        )
        return self._cipher

    @property
    def _encrypted(self) -> bool:
        return bool(self._order.kms_key) and self._order.session_type != PORT

    def _request(self) -> dict[str, Any]:
        order = self._order
        properties = order.properties if order.session_type == PORT else None
        actions: list[dict[str, Any]] = [
            {
                "ActionType": "SessionType",
                "ActionParameters": {"SessionType": order.session_type, "Properties": properties},
            }
        ]
        if self._encrypted:
            parameters = {"KMSKeyId": order.kms_key, "Challenge": self._challenge}
            actions.append({"ActionType": "KMSEncryption", "ActionParameters": parameters})
        return {"AgentVersion": self._service.config.agent_version, "RequestedClientActions": actions}

    def _new_cipher(self, result: dict[str, Any]) -> Cipher:
        key = decrypted_key(
            self._service,
            stored_credentials(self._service),
            key_id=self._order.kms_key,
            ciphertext=result["KMSCipherTextKey"],
            session_id=self._order.session_id,
            challenge=self._challenge if result.get("ChallengeAcknowledgement") else None,
        )
        return Cipher(key)

    async def _confirm(self) -> None:
        if self._cipher is None:
            raise HandshakeError("the client sent no data key")
        random = os.urandom(64)
        self._send(CHALLENGE_REQUEST, {"Challenge": base64.b64encode(self._cipher.encrypt(random)).decode()})
        answer = await self._answer(CHALLENGE_RESPONSE, "Timed out waiting for encryption challenge.")
        if self._cipher.decrypt(base64.b64decode(answer["Challenge"])) != random:
            raise HandshakeError("Encryption challenge does not match!")

    def _customer_message(self, client_version: str) -> str:
        text = ""
        try:
            version = tuple(int(part) for part in client_version.split(".")[:3])
        except ValueError:
            version = ()
        if self._order.separate and version <= _TOO_OLD:
            text = (
                "Please update session manager plugin version (minimum required version 1.2.312.0) "
                "for fully support of separate StdOut/StdErr output.\r\n"
            )
        return text + ("This session is encrypted using AWS KMS." if self._encrypted else "")

    def _take(self, message: Message) -> Taken:
        if message.payload_type in (HANDSHAKE_RESPONSE, CHALLENGE_RESPONSE):
            self._answers.put_nowait(message)
        return Taken.YES  # other input before the end of the handshake is acknowledged and dropped

    async def _answer(self, payload_type: int, late: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT):
                while True:
                    message = await self._answers.get()
                    if message.payload_type == payload_type:
                        answer: dict[str, Any] = json.loads(message.payload)
                        return answer
        except TimeoutError:
            raise HandshakeError(late) from None

    def _send(self, payload_type: int, content: dict[str, Any]) -> None:
        self._channel.send(payload_type, json.dumps(content, separators=(",", ":")).encode())
