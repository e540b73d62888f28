# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of type Session and Command: the public ones, an account's preferences, and those that users make."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

import yaml

from .errors import AwsError
from .run_command import documents as command_documents

#: The document that StartSession takes when none is named; if an account has none, these are its contents.
PREFERENCES = "SSM-SessionManagerRunShell"
SESSION_TYPES = ("Standard_Stream", "InteractiveCommands", "NonInteractiveCommands", "Port")
_PLATFORMS = ("linux", "macos", "windows")
_DEFAULT_PREFERENCES: dict[str, Any] = {
    "schemaVersion": "1.0",
    "description": "Document to hold regional settings for Session Manager",
    "sessionType": "Standard_Stream",
    "inputs": {
        "s3BucketName": "",
        "s3KeyPrefix": "",
        "s3EncryptionEnabled": True,
        "cloudWatchLogGroupName": "",
        "cloudWatchEncryptionEnabled": True,
        "cloudWatchStreamingEnabled": False,
        "idleSessionTimeout": "20",
        "maxSessionDuration": "",
        "kmsKeyId": "",
        "runAsEnabled": False,
        "runAsDefaultUser": "",
        "shellProfile": {"windows": "", "linux": ""},
    },
}


def _commands(session_type: str, description: str) -> dict[str, Any]:
    command = {"commands": "{{ command }}", "runAsElevated": False}
    return {
        "schemaVersion": "1.0",
        "description": description,
        "sessionType": session_type,
        "parameters": {"command": {"type": "String", "description": "The command to run on the node"}},
        "properties": {platform: dict(command) for platform in _PLATFORMS},
    }


def _separable(document: dict[str, Any]) -> dict[str, Any]:
    """Let a caller have stdout, stderr and the exit status apart, as the public document does."""
    choices = {"separateOutputStream": {"type": "String", "allowedValues": ["true", "false"], "default": "false"}}
    choices |= {name: {"type": "String", "default": ""} for name in ("stdoutSeparatorPrefix", "stderrSeparatorPrefix")}
    document["parameters"] |= choices
    for properties in document["properties"].values():
        properties["separateOutputStream"] = "{{ separateOutputStream }}"
        properties["stdOutSeparatorPrefix"] = "{{ stdoutSeparatorPrefix }}"
        properties["stdErrSeparatorPrefix"] = "{{ stderrSeparatorPrefix }}"
    return document


def _port(description: str, parameters: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "schemaVersion": "1.0",
        "description": description,
        "sessionType": "Port",
        "parameters": parameters,
        "properties": properties,
    }


_PORT = {"type": "String", "allowedPattern": "^([1-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"}
_LOCAL_PORT = {"type": "String", "allowedPattern": _PORT["allowedPattern"].replace("([1-9]|", "([0-9]|"), "default": "0"}

PUBLIC: dict[str, dict[str, Any]] = {
    "AWS-StartInteractiveCommand": _commands("InteractiveCommands", "Run one interactive command"),
    "AWS-StartNonInteractiveCommand": _separable(_commands("NonInteractiveCommands", "Run one command without input")),
    "AWS-StartSSHSession": _port(
        "Tunnel SSH", {"portNumber": {**_PORT, "default": "22"}}, {"portNumber": "{{ portNumber }}"}
    ),
    "AWS-StartPortForwardingSession": _port(
        "Forward a port",
        {"portNumber": {**_PORT, "default": "80"}, "localPortNumber": _LOCAL_PORT},
        {"portNumber": "{{ portNumber }}", "type": "LocalPortForwarding", "localPortNumber": "{{ localPortNumber }}"},
    ),
}


@dataclass
class Version:
    """One version of a document."""

    number: int
    text: str
    format: str
    name: str = ""
    created: float = field(default_factory=time.time)

    @property
    def content(self) -> dict[str, Any]:
        """Parsed."""
        return parse(self.text, self.format)


@dataclass
class Document:
    """A document of an account."""

    name: str
    owner: str  #: an account, or Amazon
    kind: str  #: DocumentType: Session | Command
    versions: list[Version]
    default: int = 1
    target_type: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)  #: accounts (or "all") with the version that they are given

    @property
    def public(self) -> bool:
        """Whether it is AWS's own."""
        return self.owner == "Amazon"

    def arn(self, region: str) -> str:
        """As IAM names it."""
        return f"arn:aws:ssm:{region}:{'' if self.public else self.owner}:document/{self.name}"

    def version(self, wanted: str | None = None) -> Version:
        """A version by number, $LATEST, or $DEFAULT; raises `AwsError`."""
        if wanted == "$LATEST":
            return self.versions[-1]
        number = self.default if wanted in (None, "", "$DEFAULT") else int(wanted)
        for version in self.versions:
            if version.number == number:
                return version
        raise AwsError("InvalidDocumentVersion", f"The document version {wanted} of {self.name} does not exist.")

    def is_for(self, account: str) -> bool:
        """Whether an account may use it."""
        return self.public or self.owner == account or account in self.shared or "all" in self.shared


class Documents:
    """Documents by account and region."""

    def __init__(self) -> None:
        self._own: dict[tuple[str, str, str], Document] = {}
        self._public = {
            **{name: _public(name, "Session", (content,)) for name, content in PUBLIC.items()},
            **{name: _public(name, "Command", contents) for name, contents in command_documents.PUBLIC.items()},
        }

    def find(self, account: str, region: str, name: str) -> Document | None:
        """By name, or by ARN, which may be another account's that shares it."""
        short, owner = short_name(name), owner_of(name) or account
        document = self._public.get(short) or self._own.get((owner, region, short))
        return document if document is not None and document.is_for(account) else None

    def within(self, account: str, region: str) -> list[Document]:
        """The public ones, an account's own, and those shared with it."""
        own = [document for key, document in self._own.items() if key[1] == region and document.is_for(account)]
        return [*self._public.values(), *own]

    def preferences(self, account: str, region: str) -> dict[str, Any]:
        """What sessions of the account inherit."""
        document = self._own.get((account, region, PREFERENCES))
        return document.version().content if document is not None else _DEFAULT_PREFERENCES

    def create(
        self, account: str, region: str, name: str, text: str, form: str, version_name: str = "", *, kind: str = "Session"
    ) -> Document:
        """A new document; raises `AwsError`."""
        if name.lower().startswith(("aws", "amazon", "amzn")):
            raise AwsError("ValidationException", f"Document name {name} must not start with a reserved prefix.")
        if (account, region, name) in self._own:
            raise AwsError("DocumentAlreadyExists", f"Document with same name {name} already exists")
        check(parse(text, form), kind)
        document = Document(name, account, kind, [Version(1, text, form, version_name)])
        self._own[account, region, name] = document
        return document

    def update(self, document: Document, text: str, form: str, version_name: str = "") -> Version:
        """A new version, which is not the default one yet; raises `AwsError`."""
        content = parse(text, form)
        check(content, document.kind)
        if any(version.content == content for version in document.versions):
            raise AwsError(
                "DuplicateDocumentContent",
                "The content of the document matches another document. Change the content of the document and try again.",
            )
        if version_name and any(version.name == version_name for version in document.versions):
            raise AwsError("DuplicateDocumentVersionName", f"The version name {version_name} is used already.")
        document.versions.append(Version(document.versions[-1].number + 1, text, form, version_name))
        return document.versions[-1]

    def delete(self, account: str, region: str, name: str) -> bool:
        """Whether there was one."""
        return self._own.pop((account, region, short_name(name)), None) is not None


def _public(name: str, kind: str, contents: tuple[dict[str, Any], ...]) -> Document:
    versions = [Version(number, json.dumps(content, indent=2), "JSON") for number, content in enumerate(contents, 1)]
    return Document(name, "Amazon", kind, versions)


def owner_of(name: str) -> str:
    """The account in a document's ARN, empty without one."""
    return name.split(":")[4] if name.startswith("arn:") and name.count(":") >= 5 else ""


def short_name(name: str) -> str:
    """A document's name without its ARN."""
    return name.rpartition("document/")[2]


def parse(text: str, form: str) -> dict[str, Any]:
    """Content of a document; raises `AwsError`."""
    try:
        content = yaml.safe_load(text) if form == "YAML" else json.loads(text)
    except (ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise AwsError("InvalidDocumentContent", f"The content is no {form or 'JSON'} object")
    return content


def check(content: dict[str, Any], kind: str) -> None:
    """Raise `AwsError` for what the service refuses in a document of a type."""
    if kind == "Command":
        command_documents.check(content)
        return
    if str(content.get("schemaVersion")) != "1.0":
        raise AwsError("InvalidDocumentSchemaVersion", "The schema version of a Session document must be 1.0")
    if content.get("sessionType") not in SESSION_TYPES:
        raise AwsError("InvalidDocumentContent", f"sessionType must be one of {', '.join(SESSION_TYPES)}")
    timeout = str(content.get("inputs", {}).get("idleSessionTimeout", "") or "20")
    if not timeout.isdigit() or not 1 <= int(timeout) <= 60:
        raise AwsError("InvalidDocumentContent", "idleSessionTimeout must be between 1 and 60 minutes")


def digest(text: str, kind: str = "Sha256") -> str:
    """A document's hash, of type Sha256 or Sha1."""
    return hashlib.new(kind.lower(), text.encode()).hexdigest()


def resolve_parameters(content: dict[str, Any], given: dict[str, list[str]]) -> dict[str, Any]:
    """The parameters of a session: those given, checked, and defaults; raises `AwsError` InvalidParameters."""
    declared: dict[str, Any] = content.get("parameters") or {}
    for name in given:
        if name not in declared:
            raise AwsError("InvalidParameters", f"The parameter {name} is not declared in the document.")
    resolved: dict[str, Any] = {}
    for name, declaration in declared.items():
        values = given.get(name)
        if values is None:
            if "default" not in declaration:
                raise AwsError("InvalidParameters", f"The required parameter {name} is missing.")
            resolved[name] = declaration["default"]
            continue
        _check_values(name, declaration, values)
        resolved[name] = list(values) if declaration.get("type") == "StringList" else "".join(values[:1])
    return resolved


def _check_values(name: str, declaration: dict[str, Any], values: list[str]) -> None:
    pattern, choices = declaration.get("allowedPattern"), declaration.get("allowedValues")
    for value in values:
        if pattern and re.search(pattern, value) is None:
            raise AwsError("InvalidParameters", f"Parameter {name} with value {value!r} does not match {pattern}")
        if choices and value not in choices:
            raise AwsError("InvalidParameters", f"Parameter {name} must be one of {', '.join(choices)}")
        if len(value) > int(declaration.get("maxChars", len(value))):
            raise AwsError("InvalidParameters", f"Parameter {name} is longer than {declaration['maxChars']} characters")
