# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions on one node, as AWS's API has them: started, resumed, terminated. None that was started is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from ...datachannel.client import ChannelRefused, DataKey, SessionClient, SessionGone, StartedSession
from ...datachannel.settings import ChannelSettings
from .. import errors
from ..aws.identity import Answer, Identity
from ..errors import unreachable
from ..request import ConnectionOptions
from ..tasks import Tasks

THROTTLING_PATIENCE = 180.0
"""Seconds for which a StartSession that AWS refuses for its rate is tried: a fleet that is opened at once is slow, not out of reach."""

_OPEN_TIMEOUT = 6.0
"""Seconds in which a data channel must be open; a node whose endpoint cannot be reached must be called so within ten."""


class NodeNotConnected(Exception):
    """Session Manager has no connection to the node."""


class NodeSessions:
    """Those of one node, by one identity.

    :param waited: for :meth:`Identity.call`, of StartSession.
    """

    def __init__(self, identity: Identity, node_id: str, tasks: Tasks, *, waited: Callable[[float], None] | None = None) -> None:
        self.node_id = node_id
        self._identity = identity
        self._tasks = tasks
        self._waited = waited

    async def start(self, document: str, parameters: Mapping[str, list[str]], reason: str, options: ConnectionOptions) -> SessionClient:
        """StartSession. The data channel is yet to be opened, and to be closed in any case."""
        request: dict[str, Any] = {"Target": self.node_id, "Reason": reason}
        if document:
            request["DocumentName"] = document
        if parameters:
            request["Parameters"] = dict(parameters)
        deadline = asyncio.get_running_loop().time() + THROTTLING_PATIENCE
        answer = await self._identity.call(
            "ssm", "start_session", deadline=deadline, resource=self.node_id, late=self._undo, waited=self._waited, **request
        )
        session_id = answer["SessionId"]
        return SessionClient(
            StartedSession(session_id, answer["StreamUrl"], answer["TokenValue"], self.node_id),
            resume=lambda: self._resume(session_id),
            terminate=lambda: self._terminate(session_id),
            generate_data_key=self._generate_data_key,
            sign=self._identity.sign,
            network=self._identity.known_settings.network,
            settings=ChannelSettings(
                input_waits=True, max_payload=options.payload_size, max_window=options.send_window, open_timeout=_OPEN_TIMEOUT
            ),
        )  # fmt: skip

    async def require_connected(self) -> str:
        """Nothing, or why it is not known.

        :raises NodeNotConnected: AWS says that the node has no connection.
        """
        deadline = asyncio.get_running_loop().time() + 5.0
        try:
            answer = await self._identity.call("ssm", "get_connection_status", deadline=deadline, resource=self.node_id, Target=self.node_id)
        except Exception as error:  # the permission is not needed otherwise, so it may be missing
            return errors.error_code(error) or type(error).__name__
        if answer.get("Status") not in ("connected", "Connected"):
            raise NodeNotConnected(f"{self.node_id} is not connected to Session Manager")
        return ""

    def _undo(self, answer: Answer) -> None:
        self._tasks.start(self._terminate_late(answer))

    async def _terminate_late(self, answer: Answer) -> None:
        """Nobody waits any more for a session that AWS is just starting."""
        with contextlib.suppress(Exception):  # it was not started; or it ends by its idle time-out
            await self._terminate((await answer)["SessionId"])

    async def _resume(self, session_id: str) -> StartedSession:
        deadline = asyncio.get_running_loop().time() + 10.0
        try:
            answer = await self._identity.call("ssm", "resume_session", deadline=deadline, resource=session_id, SessionId=session_id)
        except Exception as error:
            if errors.error_code(error) == "DoesNotExistException":
                raise SessionGone(self._identity.explain(error, "ssm:ResumeSession", session_id)) from error
            if errors.is_denied(error):
                raise ChannelRefused(self._identity.explain(error, "ssm:ResumeSession", session_id)) from error
            raise
        return StartedSession(session_id, answer.get("StreamUrl", ""), answer.get("TokenValue", ""), self.node_id)

    async def _terminate(self, session_id: str) -> None:
        deadline = asyncio.get_running_loop().time() + ChannelSettings().terminate_timeout
        await self._identity.call("ssm", "terminate_session", deadline=deadline, resource=session_id, SessionId=session_id)

    async def _generate_data_key(self, key_id: str, context: Mapping[str, str]) -> DataKey:
        deadline = asyncio.get_running_loop().time() + 10.0
        try:
            answer = await self._identity.call(
                "kms", "generate_data_key", deadline=deadline, resource=key_id, KeyId=key_id, NumberOfBytes=64, EncryptionContext=dict(context)
            )
        except Exception as error:
            raise unreachable(self._identity.explain(error, "kms:GenerateDataKey", key_id)) from error
        return DataKey(answer["Plaintext"], answer["CiphertextBlob"])
