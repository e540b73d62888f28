# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service settings of Systems Manager, such as the role of the Default Host Management Configuration."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ..problems import CollectError
from ..scope import Place
from .kind import Kind, State


class ServiceSetting(Kind):
    """Properties: `value`; `replace`, whether another value may go that somebody has given it. The name is the setting's id.

    All settings are there always: one that has its default counts as absent, and one that has another value than the task's is not reset.
    """

    needs = ("value",)
    takes = ("replace",)

    def __init__(self, place: Place, name: str, wanted: State) -> None:
        super().__init__(place, name, wanted)
        self._replace = bool(boolean(wanted.pop("replace", False)))
        self._value = wanted.get("value")
        self._is = ""

    def look(self) -> State | None:
        found = self._call("GetServiceSetting")["ServiceSetting"]
        if found["Status"] == "Default":
            return None
        self._is = found["SettingValue"]
        return {"value": self._is}

    def refuse(self, now: State) -> None:
        if now["value"] != self._value and not self._replace:
            text, remedy = f"is {now['value']} already, perhaps for other people's sake.", "Set 'replace' to give it another value all the same."
            raise CollectError(self._place.account, self._place.region, "ssm:GetServiceSetting", text, remedy)

    def write(self, now: State | None, wanted: State) -> None:
        self._call("UpdateServiceSetting", SettingValue=wanted["value"])

    def remove(self, now: State) -> None:
        self._call("ResetServiceSetting")

    def kept(self) -> str:
        return f"it is {self._is}, which is not of this task" if self._value not in (None, self._is) else ""

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._place.call(operation, SettingId=self._name, **parameters)
