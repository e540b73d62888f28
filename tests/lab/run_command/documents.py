# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command documents: those that every account has, and what the service refuses in one of a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import AwsError

SCHEMAS = ("1.2", "2.0", "2.2")
PARAMETER_TYPES = ("String", "StringList", "Boolean", "Integer", "MapList", "StringMap")
PLATFORMS = ("Linux", "MacOS", "Windows")
LARGEST = 65_536  #: characters of a document

#: Plugins that are not for every platform.
_PLUGIN_PLATFORMS = {
    "aws:runShellScript": ("Linux", "MacOS"),
    "aws:applications": ("Windows",),
    "aws:domainJoin": ("Linux", "Windows"),
    "aws:psModule": ("Windows",),
    "aws:updateAgent": ("Windows",),
    "aws:updateSsmAgent": PLATFORMS,
}
_TIMEOUT = {
    "type": "String",
    "default": "3600",
    "description": "Seconds until the commands are stopped",
    "allowedPattern": r"([1-9][0-9]{0,4})|(1[0-6][0-9]{4})|(17[0-1][0-9]{3})|(172[0-7][0-9]{2})|(172800)",
}
_DIRECTORY = {"type": "String", "default": "", "description": "Where the commands run", "maxChars": 4096}
_COMMANDS = {"type": "StringList", "description": "The lines of the script", "minItems": 1, "displayType": "textarea"}
_SCRIPT_INPUTS = {
    "runCommand": "{{ commands }}",
    "workingDirectory": "{{ workingDirectory }}",
    "timeoutSeconds": "{{ executionTimeout }}",
}


def _script_parameters() -> dict[str, Any]:
    return {"commands": _COMMANDS, "workingDirectory": _DIRECTORY, "executionTimeout": _TIMEOUT}


def _script_1_2(plugin: str, description: str) -> dict[str, Any]:
    properties = [{"id": f"0.{plugin}", **_SCRIPT_INPUTS}]
    return {
        "schemaVersion": "1.2",
        "description": description,
        "parameters": _script_parameters(),
        "runtimeConfig": {plugin: {"properties": properties}},
    }


def _script_2_2(plugin: str, description: str) -> dict[str, Any]:
    return {
        "schemaVersion": "2.2",
        "description": description,
        "parameters": _script_parameters(),
        "mainSteps": [{"action": plugin, "name": plugin.removeprefix("aws:"), "inputs": _SCRIPT_INPUTS}],
    }


def _remote_script() -> dict[str, Any]:
    """Both platforms' steps; the agent leaves out the one whose precondition does not hold."""

    def run(name: str, plugin: str, platform: str, lines: list[str]) -> dict[str, Any]:
        return {
            "precondition": {"StringEquals": ["platformType", platform]},
            "action": plugin,
            "name": name,
            "inputs": {**_SCRIPT_INPUTS, "runCommand": lines},
        }

    return {
        "schemaVersion": "2.2",
        "description": "Fetch a script and run it",
        "parameters": {
            "sourceType": {"type": "String", "description": "Where the script is", "allowedValues": ["GitHub", "S3"]},
            "sourceInfo": {"type": "StringMap", "default": {}, "description": "What the source needs", "displayType": "textarea"},
            "commandLine": {"type": "String", "default": "", "description": "How the script is run"},
            "workingDirectory": _DIRECTORY,
            "executionTimeout": _TIMEOUT,
        },
        "mainSteps": [
            {
                "action": "aws:downloadContent",
                "name": "downloadContent",
                "inputs": {
                    "sourceType": "{{ sourceType }}",
                    "sourceInfo": "{{ sourceInfo }}",
                    "destinationPath": "{{ workingDirectory }}",
                },
            },
            run("runPowerShellScript", "aws:runPowerShellScript", "Windows", ["$env:PATH += \";$PWD\"", "{{ commandLine }}"]),
            run("runShellScript", "aws:runShellScript", "Linux", ["PATH=\"$PATH:$PWD\"; export PATH", "{{ commandLine }}"]),
        ],
    }


def _update_agent() -> dict[str, Any]:
    return {
        "schemaVersion": "1.2",
        "description": "Bring the agent to another version",
        "parameters": {
            "version": {"type": "String", "default": "", "description": "The version; the latest if empty"},
            "allowDowngrade": {
                "type": "String",
                "default": "false",
                "description": "Whether it may be an older one",
                "allowedValues": ["true", "false"],
            },
        },
        "runtimeConfig": {
            "aws:updateSsmAgent": {
                "properties": [
                    {
                        "agentName": "amazon-ssm-agent",
                        "source": "https://s3.{Region}.amazonaws.com/amazon-ssm-{Region}/ssm-agent-manifest.json",
                        "allowDowngrade": "{{ allowDowngrade }}",
                        "targetVersion": "{{ version }}",
                    }
                ]
            }
        },
    }


#: Versions of the public documents, the first one being the default.
PUBLIC: Mapping[str, tuple[dict[str, Any], ...]] = {
    "AWS-RunShellScript": tuple(
        make("aws:runShellScript", "Run a shell script") for make in (_script_1_2, _script_2_2)
    ),
    "AWS-RunPowerShellScript": tuple(
        make("aws:runPowerShellScript", "Run a PowerShell script") for make in (_script_1_2, _script_2_2)
    ),
    "AWS-RunRemoteScript": (_remote_script(),),
    "AWS-UpdateSSMAgent": (_update_agent(),),
}


def check(content: Mapping[str, Any]) -> None:
    """Raise `AwsError` for what the service refuses in a Command document."""
    schema = str(content.get("schemaVersion"))
    if schema not in SCHEMAS:
        raise AwsError("InvalidDocumentSchemaVersion", f"Schema version {schema} is not supported for Command documents.")
    if len(json.dumps(content)) > LARGEST:
        raise AwsError("MaxDocumentSizeExceeded", f"The document is larger than {LARGEST // 1024} KB.")
    for name, declaration in (content.get("parameters") or {}).items():
        if not isinstance(declaration, Mapping) or declaration.get("type") not in PARAMETER_TYPES:
            raise _invalid(f"the type of parameter {name} must be one of {', '.join(PARAMETER_TYPES)}")
    if schema == "1.2":
        if not isinstance(content.get("runtimeConfig"), Mapping) or not content["runtimeConfig"]:
            raise _invalid("runtimeConfig must name a plugin")
    else:
        _check_steps(content.get("mainSteps"))


def platforms(content: Mapping[str, Any]) -> list[str]:
    """PlatformTypes: where at least one step can run."""
    found = {platform for plugin in _plugins(content) for platform in _PLUGIN_PLATFORMS.get(plugin, PLATFORMS)}
    return [platform for platform in PLATFORMS if platform in found]


def execution_timeout(content: Mapping[str, Any], parameters: Mapping[str, Any]) -> float:
    """How long an agent lets the document run, in seconds, as far as a parameter of the usual name says."""
    declared = (content.get("parameters") or {}).get("executionTimeout", {}).get("default", "3600")
    value = str(parameters.get("executionTimeout", declared))
    return float(value) if value.isdigit() and 5 <= int(value) <= 172_800 else 3600.0


def _plugins(content: Mapping[str, Any]) -> Iterable[str]:
    if "mainSteps" in content:
        return [step["action"] for step in content["mainSteps"]]
    return list(content.get("runtimeConfig", {}))


def _check_steps(steps: Any) -> None:
    if not isinstance(steps, list) or not steps:
        raise _invalid("mainSteps must be a list of steps")
    names = set()
    for step in steps:
        if not isinstance(step, Mapping) or not step.get("action") or not step.get("name"):
            raise _invalid("each of mainSteps must have an action and a name")
        if step["name"] in names:
            raise _invalid(f"two of mainSteps have the name {step['name']}")
        names.add(step["name"])


def _invalid(text: str) -> AwsError:
    return AwsError("InvalidDocumentContent", f"The content of the document is not valid: {text}.")
