# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""StartSession and what belongs to it."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import quote

from .. import moto_bridge
from ..documents import PREFERENCES, parse, resolve_parameters, short_name
from ..errors import AwsError
from ..sessions import NewSession, not_connected
from ..state import ACTIVE_STATES, Session
from .registry import Call, action, page

_DEFAULT_IDLE_MINUTES = 20.0
_PAGE = 200
#: AWS puts base64 into the URL as it is, which must not upset anyone's signature.
_CELL = "AAEA++//cell=="


@action("StartSession", authorizes=True)
async def start_session(call: Call) -> dict[str, Any]:
    """Answer a session id, a stream URL and a token."""
    target, name = call.parameters["Target"], call.parameters.get("DocumentName")
    node = call.node(target)
    resources = [node.arn if node else call.presumed_arn(target)]
    if name:
        owner = "" if short_name(name).startswith("AWS-") else call.account
        resources.append(f"arn:aws:ssm:{call.region}:{owner}:document/{short_name(name)}")
    call.authorize("StartSession", *resources)
    content = _content(call, name)
    parameters = resolve_parameters(content, call.parameters.get("Parameters") or {})
    if node is None or not node.connected:
        raise not_connected(target)
    inputs: dict[str, Any] = content.get("inputs") or {}
    session = await call.world.sessions.start(
        NewSession(
            account=call.account,
            region=call.region,
            node=node,
            owner=call.principal,
            document_name=short_name(name) if name else PREFERENCES,
            content=content,
            parameters=parameters,
            reason=call.parameters.get("Reason"),
            run_as=_run_as(call, inputs),
            idle_minutes=float(inputs.get("idleSessionTimeout") or _DEFAULT_IDLE_MINUTES),
            max_minutes=float(inputs["maxSessionDuration"]) if inputs.get("maxSessionDuration") else None,
        ),
        call.stream_base,
    )
    return _opening(session)


@action("ResumeSession", authorizes=True)
async def resume_session(call: Call) -> dict[str, Any]:
    """A new token."""
    session = _own_session(call, "ResumeSession")
    if session is None:
        raise AwsError("DoesNotExistException", f"Session {call.parameters['SessionId']} does not exist.")
    return _opening(call.world.sessions.resume(session.session_id))


@action("TerminateSession", authorizes=True)
async def terminate_session(call: Call) -> dict[str, Any]:
    """End a session; it need not exist."""
    session = _own_session(call, "TerminateSession")
    if session is not None:
        await call.world.sessions.terminate(session.session_id, "TerminateSession")
    return {"SessionId": call.parameters["SessionId"]}


@action("DescribeSessions")
async def describe_sessions(call: Call) -> dict[str, Any]:
    """Active or ended sessions, the latest first."""
    wanted = call.parameters["State"] == "Active"
    found = [
        session
        for session in reversed(call.world.sessions.all())
        if (session.account, session.region) == (call.account, call.region)
        and (session.ended is None) is wanted
        and all(_matches(session, entry) for entry in call.parameters.get("Filters") or ())
    ]
    chosen, more = page(found, call.parameters, min(call.parameters.get("MaxResults") or _PAGE, _PAGE))
    return {"Sessions": [_described(session) for session in chosen], **more}


@action("GetConnectionStatus", authorizes=True)
async def get_connection_status(call: Call) -> dict[str, Any]:
    """Whether an agent is at the other end."""
    target = call.parameters["Target"]
    node = call.node(target)
    call.authorize("GetConnectionStatus", node.arn if node else call.presumed_arn(target))
    return {"Target": target, "Status": "connected" if node is not None and node.connected else "notconnected"}


def _content(call: Call, name: str | None) -> dict[str, Any]:
    """The document with the account's preferences where it has no inputs of its own."""
    documents = call.world.documents
    preferences = documents.preferences(call.account, call.region)
    if not name or short_name(name) == PREFERENCES:
        return preferences
    document = documents.find(call.account, call.region, name)
    if document is None:
        raise AwsError("InvalidDocument", f"Document with name {short_name(name)} does not exist.")
    version = document.version()
    content = parse(version.text, version.format)
    if call.world.settings.preferences_for_all and content["sessionType"] != "Port" and "inputs" not in content:
        content["inputs"] = dict(preferences.get("inputs") or {})
    return content


def _run_as(call: Call, inputs: dict[str, Any]) -> str:
    """The user that RunAs demands: the principal's tag SSMSessionRunAs, else the preferences' default."""
    if not inputs.get("runAsEnabled"):
        return ""
    if call.principal.role is not None:
        role = moto_bridge.role_of(call.account, call.principal.role)
        tags = {entry["Key"]: entry["Value"] for entry in role.get_tags()} if role is not None else {}
        if "SSMSessionRunAs" in tags:
            return str(tags["SSMSessionRunAs"])
    return str(inputs.get("runAsDefaultUser") or "")


def _own_session(call: Call, name: str) -> Session | None:
    session_id = call.parameters["SessionId"]
    session = call.world.sessions.get(session_id)
    call.authorize(name, f"arn:aws:ssm:{call.region}:{call.account}:session/{session_id}")
    if session is None or (session.account, session.region) != (call.account, call.region):
        return None
    return session


def _opening(session: Session) -> dict[str, Any]:
    path = f"/v1/data-channel/{quote(session.session_id, safe='')}?role=publish_subscribe&cell-number={_CELL}"
    return {
        "SessionId": session.session_id,
        "TokenValue": session.client_token,
        "StreamUrl": f"{session.stream_base}{path}",
    }


def _described(session: Session) -> dict[str, Any]:
    found = {
        "SessionId": session.session_id,
        "Target": session.node.node_id,
        "Status": session.status,
        "StartDate": session.started,
        "DocumentName": session.document_name,
        "Owner": session.owner,
        "Details": session.end_reason,
        "OutputUrl": {},
    }
    if session.reason:
        found["Reason"] = session.reason
    if session.ended is not None:
        found["EndDate"] = session.ended
    if session.max_minutes:
        found["MaxSessionDuration"] = f"{session.max_minutes:.0f}"
    return found


def _matches(session: Session, entry: dict[str, str]) -> bool:
    key, value = entry["key"], entry["value"]
    if key in ("InvokedAfter", "InvokedBefore"):
        try:
            moment = datetime.datetime.fromisoformat(value).timestamp()
        except ValueError:
            raise AwsError("ValidationException", f"{value} is no date") from None
        return session.started > moment if key == "InvokedAfter" else session.started < moment
    values = {
        "Target": session.node.node_id,
        "Owner": session.owner,
        "Status": "Active" if session.status in ACTIVE_STATES else session.status,
        "SessionId": session.session_id,
    }
    if key not in values:
        raise AwsError("InvalidFilterKey", f"The filter key {key} is not valid.")
    return value in (values[key], session.status if key == "Status" else values[key])
