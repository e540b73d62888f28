# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Functions of Lambda, with who may call them and what becomes of events that fail."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.waiter import BaseWaiterFactory, custom_waiter_config

from ..scope import Place
from .kind import Kind, State, absent_if, arn

_NOT_THERE = ("ResourceNotFoundException",)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_WAIT_SECONDS = 60


def packed(folder: Path) -> bytes:
    """A package of Python files as Lambda takes it; the same bytes for the same files, whenever and wherever they were written."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.glob("*.py")):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.name}", _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return target.getvalue()


class _RoleWaiters(BaseWaiterFactory):  # type: ignore[misc]
    """Creates a function as soon as Lambda may assume its role."""

    @property
    def _waiter_model_data(self) -> dict[str, Any]:
        return {
            "role_known": {
                "operation": "CreateFunction",
                "delay": 3,
                "maxAttempts": 20,
                "acceptors": [
                    {"state": "success", "matcher": "status", "expected": 201},
                    {"state": "retry", "matcher": "error", "expected": "InvalidParameterValueException"},
                ],
            }
        }


class Function(Kind):
    """Properties: `code`, a folder of this machine; `role`, `handler`, `runtime`, `timeout`, `memory`, `environment`;
    `callers`, by their names `service` and `source` (an ARN) and `account`; `failures`, the ARN of a queue; `tags`.
    """

    needs = ("code", "role", "handler", "runtime", "timeout", "memory", "environment", "callers", "failures")
    takes = ("tags",)

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        self._zip = packed(Path(wanted.pop("code"))) if "code" in wanted else b""
        if self._zip:
            wanted["timeout"], wanted["memory"] = int(wanted["timeout"]), int(wanted["memory"])
            wanted["environment"] = {name: str(value) for name, value in wanted["environment"].items()}
            wanted["code"] = base64.b64encode(hashlib.sha256(self._zip).digest()).decode()

    def look(self) -> State | None:
        found = absent_if(_NOT_THERE, lambda: self._call("GetFunctionConfiguration"))
        if found is None:
            return None
        invoked = absent_if(_NOT_THERE, lambda: self._call("GetFunctionEventInvokeConfig"))
        return {
            "code": found["CodeSha256"],
            "role": found["Role"],
            "handler": found["Handler"],
            "runtime": found["Runtime"],
            "timeout": found["Timeout"],
            "memory": found["MemorySize"],
            "environment": found.get("Environment", {}).get("Variables", {}),
            "callers": self._callers(),
            "failures": (invoked or {}).get("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
            **self._seen_tags(lambda: self._place.call("ListTags", service="lambda", Resource=self._arn).get("Tags", {})),
        }

    def write(self, now: State | None, wanted: State) -> None:
        configuration = {
            "Role": wanted["role"],
            "Handler": wanted["handler"],
            "Runtime": wanted["runtime"],
            "Timeout": wanted["timeout"],
            "MemorySize": wanted["memory"],
            "Environment": {"Variables": wanted["environment"]},
        }
        if now is None:
            self._create(configuration)
        else:
            if any(now[key] != wanted[key] for key in ("role", "handler", "runtime", "timeout", "memory", "environment")):
                self._call("UpdateFunctionConfiguration", **configuration)
                self._wait("function_updated_v2")
            if now["code"] != wanted["code"]:
                self._call("UpdateFunctionCode", ZipFile=self._zip)
                self._wait("function_updated_v2")
        self._write_callers((now or {}).get("callers", {}), wanted["callers"])
        if now is None or now["failures"] != wanted["failures"]:
            self._call("PutFunctionEventInvokeConfig", MaximumRetryAttempts=2, DestinationConfig={"OnFailure": {"Destination": wanted["failures"]}})
        if missing := self._missing_tags(now):
            self._place.call("TagResource", service="lambda", Resource=self._arn, Tags=missing)

    def remove(self, now: State) -> None:
        self._call("DeleteFunction")

    def _create(self, configuration: dict[str, Any]) -> None:
        """A role that was made a moment ago is not known to Lambda yet, so this is tried until it is."""
        self._place.wait(
            _RoleWaiters().get_waiter(self._client(), "role_known"), "lambda:CreateFunction",
            FunctionName=self._name, Code={"ZipFile": self._zip}, Description="Made by fleet.ssm", **configuration,
            WaiterConfig=custom_waiter_config(_WAIT_SECONDS, default_pause=3),
        )  # fmt: skip
        self._wait("function_active_v2")

    def _wait(self, name: str) -> None:
        limits = {"Delay": 1, "MaxAttempts": _WAIT_SECONDS}
        self._place.wait(self._client().get_waiter(name), "lambda:GetFunction", FunctionName=self._name, WaiterConfig=limits)

    def _client(self) -> Any:
        return self._place.clients.client("lambda", self._place.region)

    @property
    def _arn(self) -> str:
        return arn(self._place, "lambda", f"function:{self._name}")

    def _callers(self) -> dict[str, Any]:
        found = absent_if(_NOT_THERE, lambda: self._call("GetPolicy"))
        callers = {}
        for statement in json.loads(found["Policy"])["Statement"] if found else ():
            condition = statement.get("Condition", {})
            callers[statement["Sid"]] = {
                "service": statement["Principal"]["Service"],
                "source": condition.get("ArnLike", {}).get("AWS:SourceArn"),
                **({"account": condition["StringEquals"]["AWS:SourceAccount"]} if "StringEquals" in condition else {}),
            }
        return callers

    def _write_callers(self, now: dict[str, Any], wanted: dict[str, Any]) -> None:
        for name in now:
            if now[name] != wanted.get(name):
                self._call("RemovePermission", StatementId=name)
        for name, caller in wanted.items():
            if now.get(name) != caller:
                account = {"SourceAccount": caller["account"]} if "account" in caller else {}
                self._call(
                    "AddPermission", StatementId=name, Action="lambda:InvokeFunction", Principal=caller["service"], SourceArn=caller["source"], **account
                )

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, service="lambda", FunctionName=self._name, **parameters)
