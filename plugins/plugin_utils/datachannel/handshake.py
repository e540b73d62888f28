# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Payloads of the handshake with which an agent opens a session.

Agents shake hands for non-interactive and port sessions, and for all sessions that are encrypted. They discard input
that arrives before their ``HandshakeComplete``.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .message import MalformedMessage

# Agents take it for the version of AWS's client and choose by it, e.g. separate output streams from 1.2.312.0 on. This is
# the oldest one that AWS supports: the first that signs the request for the websocket and stayed in use.
CLIENT_VERSION: Final = "1.2.764.0"

SESSION_TYPE: Final = "SessionType"
KMS_ENCRYPTION: Final = "KMSEncryption"

_SUCCESS: Final = 1
_FAILED: Final = 2
_UNSUPPORTED: Final = 3

_KNOWN_SESSION_TYPES: Final = frozenset({"Standard_Stream", "InteractiveCommands", "NonInteractiveCommands", "Port"})


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """The agent's wish for encryption; ``challenge`` is empty for agents that do not send one."""

    key_id: str
    challenge: str

    def context(self, session_id: str, target_id: str) -> dict[str, str]:
        """The encryption context that agent and client must both use."""
        context = {"aws:ssm:SessionId": session_id, "aws:ssm:TargetId": target_id}
        if self.challenge:
            context["aws:ssm:RandomChallenge"] = self.challenge
        return context


@dataclass(frozen=True, slots=True)
class HandshakeRequest:
    """What the agent asks for, in its order."""

    agent_version: str
    actions: tuple[str, ...]
    session_type: str
    encryption: EncryptionRequest | None


def parse_request(payload: bytes) -> HandshakeRequest:
    """Read the agent's request; raises :class:`MalformedMessage`."""
    try:
        request = json.loads(payload)
        parameters: dict[str, Mapping[str, Any]] = {
            str(action["ActionType"]): action.get("ActionParameters") or {} for action in request.get("RequestedClientActions") or ()
        }
        encryption = None
        if KMS_ENCRYPTION in parameters:
            wish = parameters[KMS_ENCRYPTION]
            encryption = EncryptionRequest(str(wish["KMSKeyId"]), str(wish.get("Challenge") or ""))
        return HandshakeRequest(
            agent_version=str(request.get("AgentVersion", "")),
            actions=tuple(parameters),
            session_type=str(parameters.get(SESSION_TYPE, {}).get("SessionType", "")),
            encryption=encryption,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise MalformedMessage("a handshake request that cannot be understood") from exc


def response(request: HandshakeRequest, *, encrypted_key: bytes | None = None, encryption_failure: str = "") -> tuple[bytes, list[str]]:
    """The payload that answers ``request``, and the failures that it tells the agent; the agent ends the session on any.

    ``encrypted_key`` is the data key as KMS encrypted it, for the agent to decrypt.
    """
    failures: list[str] = []
    processed = []
    for action in request.actions:
        status, result, error = _SUCCESS, None, ""
        if action == SESSION_TYPE:
            if request.session_type not in _KNOWN_SESSION_TYPES:
                status, error = _FAILED, f"Unknown session type {request.session_type}"
        elif action == KMS_ENCRYPTION and request.encryption is not None:
            if encrypted_key is None:
                status, error = _FAILED, encryption_failure or "no data key"
            else:
                result = _key_result(encrypted_key, request.encryption)
        else:
            status, error = _UNSUPPORTED, f"Unsupported action {action}"
        if error:
            failures.append(error)
        processed.append({"ActionType": action, "ActionStatus": status, "ActionResult": result, "Error": error})
    answer = {"ClientVersion": CLIENT_VERSION, "ProcessedClientActions": processed, "Errors": failures or None}
    return json.dumps(answer, separators=(",", ":")).encode(), failures


def _key_result(encrypted_key: bytes, request: EncryptionRequest) -> dict[str, Any]:
    result: dict[str, Any] = {"KMSCipherTextKey": b64encode(encrypted_key).decode("ascii"), "KMSCipherTextHash": None}
    if request.challenge:
        # Tells the agent that the challenge is part of the encryption context; agents can be set to require it.
        result["ChallengeAcknowledgement"] = True
    return result


def parse_challenge(payload: bytes) -> bytes:
    """The encrypted challenge of the agent; raises :class:`MalformedMessage`."""
    try:
        return b64decode(json.loads(payload)["Challenge"], validate=True)
    except (ValueError, KeyError, TypeError) as exc:
        raise MalformedMessage("an encryption challenge that cannot be understood") from exc


def challenge_response(encrypted: bytes) -> bytes:
    """The payload that proves that both sides have the key."""
    return json.dumps({"Challenge": b64encode(encrypted).decode("ascii")}, separators=(",", ":")).encode()
