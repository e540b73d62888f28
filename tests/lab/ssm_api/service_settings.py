# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that Systems Manager has for each account and region, as far as agents and the collection ask for them."""

from __future__ import annotations

from typing import Any

from ..errors import AwsError, WireProtocol
from .registry import Call, action

_DHMC = "/ssm/managed-instance/default-ec2-instance-management-role"
_DEFAULTS = {
    _DHMC: "$None",
    "/ssm/managed-instance/activation-tier": "standard",
}


@action("GetServiceSetting")
async def get_service_setting(call: Call) -> dict[str, Any]:
    """A setting of the account, or its default."""
    return _shown(call, _name(call))


@action("UpdateServiceSetting")
async def update_service_setting(call: Call) -> dict[str, Any]:
    """Change a setting; a role for instances is passed."""
    name, value = _name(call), call.parameters["SettingValue"]
    if name == _DHMC:
        role = f"arn:aws:iam::{call.account}:role/{value}"
        call.world.permissions.check(call.principal, "iam:PassRole", (role,), WireProtocol.JSON)
    call.world.service_settings[call.account, call.region, name] = value
    return {}


@action("ResetServiceSetting")
async def reset_service_setting(call: Call) -> dict[str, Any]:
    """Its default again."""
    name = _name(call)
    call.world.service_settings.pop((call.account, call.region, name), None)
    return _shown(call, name)


def _name(call: Call) -> str:
    return str(call.parameters["SettingId"].rpartition("servicesetting")[2])


def _shown(call: Call, name: str) -> dict[str, Any]:
    key = (call.account, call.region, name)
    value = call.world.service_settings.get(key, _DEFAULTS.get(name))
    if value is None:
        raise AwsError("ServiceSettingNotFound", f"The setting {name} does not exist.")
    return {
        "ServiceSetting": {
            "SettingId": name,
            "SettingValue": value,
            "LastModifiedDate": 0.0,
            "LastModifiedUser": "System",
            "ARN": f"arn:aws:ssm:{call.region}:{call.account}:servicesetting{name}",
            "Status": "Customized" if key in call.world.service_settings else "Default",
        }
    }
