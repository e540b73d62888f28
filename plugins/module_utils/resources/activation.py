# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hybrid activations, by which machines outside EC2 register.

Systems Manager gives an activation's code away once, and never changes an activation. So that a second run needs no second one, each has a tag with
its name, and its code lies in a parameter that is encrypted, whose description says of which activation it is.
"""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.retries import AWSRetry

from ..nodes import timestamp
from ..problems import CollectError
from ..scope import Place
from .iam import tag_list, texts
from .kind import Kind, State, absent_if

TAG = "fleet.ssm:activation"
_GONE, _NO_PARAMETER = ("InvalidActivation",), ("ParameterNotFound",)
_PAGE = 50
#: A role that was made a moment ago is refused as one that does not exist (ValidationException), for some ten seconds.
_PATIENT = AWSRetry.jittered_backoff(retries=12, delay=2, max_delay=10, catch_extra_error_codes=["ValidationException"])


class Activation(Kind):
    """Properties: `role`, the name of that of the nodes; `parameter`, the name of the one that gets id and code; `registrations`, how many nodes may use it;
    `days` until it expires, 30 at most; `renew_hours`, how long before its end another takes its place; `node_name`; `tags` of the nodes;
    `key` of KMS for the parameter.

    The parameter is JSON with ``activation_id``, ``activation_code`` and ``region``. An activation that is used up, near its end, or other than described
    is replaced.
    """

    needs = ("role", "parameter")
    takes = ("registrations", "days", "renew_hours", "node_name", "tags", "key")

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        # Templates of older versions of Ansible make text of numbers.
        self._days = int(wanted.pop("days", 1))
        self._renew = timedelta(hours=float(wanted.pop("renew_hours", 1)))
        self._key = wanted.pop("key", None)
        wanted["registrations"] = int(wanted.get("registrations", 1))
        wanted["node_name"] = wanted.get("node_name") or ""
        wanted["tags"] = texts(wanted.get("tags"))
        wanted["usable"] = True
        self._parameter = wanted.get("parameter", "")
        self._ids: list[str] = []

    def look(self) -> State | None:
        entries = self._place.pages("DescribeActivations", "ActivationList", MaxResults=_PAGE)
        ours = [entry for entry in entries if {"Key": TAG, "Value": self._name} in entry.get("Tags", ())]
        self._ids = [entry["ActivationId"] for entry in ours]
        if not ours:
            return None
        last = max(ours, key=lambda entry: _moment(entry["CreatedDate"]))
        left = last["RegistrationLimit"] - last.get("RegistrationsCount", 0)
        soon = datetime.now(UTC) + self._renew
        return {
            "role": last["IamRole"].rpartition("/")[2],
            "registrations": last["RegistrationLimit"],
            "node_name": last.get("DefaultInstanceName") or "",
            "tags": {tag["Key"]: tag["Value"] for tag in last["Tags"] if tag["Key"] != TAG},
            "parameter": self._parameter if self._described() == _description(last["ActivationId"]) else None,
            "usable": not last.get("Expired") and left > 0 and _moment(last["ExpirationDate"]) > soon,
        }

    def write(self, now: State | None, wanted: State) -> None:
        old = list(self._ids)
        given = {
            "IamRole": wanted["role"],
            "RegistrationLimit": wanted["registrations"],
            "ExpirationDate": datetime.now(UTC) + timedelta(days=self._days),
            "Description": f"Made by fleet.ssm as {self._name}",
            "Tags": tag_list({**wanted["tags"], TAG: self._name}),
            **({"DefaultInstanceName": wanted["node_name"]} if wanted["node_name"] else {}),
        }
        made = self._create(given)
        value = {"activation_id": made["ActivationId"], "activation_code": made["ActivationCode"], "region": self._place.region}
        try:
            self._place.call(
                "PutParameter", Name=self._parameter, Type="SecureString", Overwrite=True, Value=json.dumps(value),
                Description=_description(made["ActivationId"]), **({"KeyId": self._key} if self._key else {}),
            )  # fmt: skip
        except CollectError:
            with contextlib.suppress(CollectError):  # the code is lost, so it is of no use; the first error is the one to be told
                self._delete([made["ActivationId"]])
            raise
        self._delete(old)

    def remove(self, now: State) -> None:
        self._delete(self._ids)
        if self._parameter:
            absent_if(_NO_PARAMETER, lambda: self._place.call("DeleteParameter", Name=self._parameter))

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        client = self._place.clients.client("ssm", self._place.region)
        try:
            made: dict[str, Any] = _PATIENT(client.create_activation)(**given)
        except Exception as error:
            raise self._place.clients.explain(self._place.region, "ssm:CreateActivation", error) from error
        return made

    def _delete(self, ids: list[str]) -> None:
        for activation_id in ids:
            absent_if(_GONE, partial(self._place.call, "DeleteActivation", ActivationId=activation_id))

    def _described(self) -> str:
        """What the parameter's description is; empty if there is no such parameter."""
        name = {"Key": "Name", "Option": "Equals", "Values": [self._parameter]}
        found = self._place.call("DescribeParameters", ParameterFilters=[name])["Parameters"]
        return str(found[0].get("Description", "")) if found else ""


def _description(activation_id: str) -> str:
    return f"Activation {activation_id} of fleet.ssm"


def _moment(value: float | str) -> datetime:
    """A time of the API, which comes as seconds or as ISO 8601."""
    return datetime.fromisoformat(str(timestamp(value)))
