# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account's Session Manager preferences ask for: encryption with a KMS key, and the user of a session."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest
from ansible.errors import AnsibleConnectionFailure

from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller
from tests.integration.direct import DirectConnection
from tests.lab import Lab

Connect = Callable[..., DirectConnection]
Prefer = Callable[..., None]

PREFERENCES = "SSM-SessionManagerRunShell"
EVERY_BYTE = bytes(range(256)) * 41 + b"\xef\xbf\xbd \xe6\xb1 \x00 \r\n \xff \xf0\x9f\x92"


@pytest.fixture
def prefer(lab: Lab) -> Iterator[Prefer]:
    """Sets the preferences of the account and region of the first node; afterwards they are AWS's own again."""
    client = lab.client("ssm")

    def change(**inputs: object) -> None:
        content = {"schemaVersion": "1.0", "description": "test", "sessionType": "Standard_Stream", "inputs": inputs}
        client.create_document(Name=PREFERENCES, Content=json.dumps(content), DocumentType="Session", DocumentFormat="JSON")

    yield change
    client.delete_document(Name=PREFERENCES)
    lab.clear_permissions()


@pytest.fixture
def encrypted(lab: Lab, prefer: Prefer) -> str:
    """Sessions of the account are encrypted; the key's ARN."""
    key = str(lab.client("kms").create_key()["KeyMetadata"]["Arn"])
    prefer(kmsKeyId=key)
    return key


# Encryption


def exact(connection: DirectConnection) -> None:
    assert connection.execute("cat", EVERY_BYTE) == (0, EVERY_BYTE, b"")
    assert connection.execute("cat >&2; exit 3", EVERY_BYTE) == (3, b"", EVERY_BYTE)
    data = os.urandom(1_500_000)
    assert connection.execute("cat", data) == (0, data, b"")


@pytest.mark.usefixtures("encrypted")
@pytest.mark.parametrize("document", ["AWS-StartInteractiveCommand", PREFERENCES])
def test_encrypted_sessions_are_exact(lab: Lab, own_connect: Connect, document: str) -> None:
    lab.reset_requests()
    exact(own_connect(ansible_ssm_document=document))
    requests = lab.requests()
    assert requests.counts["kms:GenerateDataKey"] >= 1
    assert requests.node_counts["kms:Decrypt"] >= 1


@pytest.mark.usefixtures("encrypted", "own_documents")
def test_both_sessions_of_the_collections_pair_are_encrypted(lab: Lab, own_connect: Connect) -> None:
    lab.reset_requests()
    exact(own_connect())
    assert lab.requests().counts["kms:GenerateDataKey"] == 2


@pytest.mark.usefixtures("encrypted")
def test_keys_of_options_are_used_for_encryption(lab: Lab, own_connect: Connect) -> None:
    environment = lab.env()
    access, secret = environment.pop("AWS_ACCESS_KEY_ID"), environment.pop("AWS_SECRET_ACCESS_KEY")
    connection = own_connect(environment=environment, ansible_ssm_access_key=access, ansible_ssm_secret_key=secret)
    assert connection.execute("echo hidden") == (0, b"hidden\n", b"")


def test_without_permission_for_the_key_the_action_is_named(lab: Lab, own_connect: Connect, encrypted: str) -> None:
    lab.deny("kms:GenerateDataKey")
    with pytest.raises(AnsibleConnectionFailure, match=r"kms:GenerateDataKey") as caught:
        own_connect().execute("true")
    assert encrypted in str(caught.value)


# Users


def user(lab: Lab, command: str) -> None:
    """Make a user on the first node."""
    lab.node("web-1").run(command)


def test_run_as_user_of_the_preferences(lab: Lab, own_connect: Connect, prefer: Prefer) -> None:
    user(lab, "id alice 2>/dev/null || useradd -m alice")
    prefer(runAsEnabled=True, runAsDefaultUser="alice")
    connection = own_connect(ansible_ssm_run_as="alice")
    assert connection.execute("id -un; pwd; echo $HOME $USER") == (0, b"alice\n/home/alice\n/home/alice alice\n", b"")
    assert connection.plugin.default_user == "alice"


@pytest.mark.usefixtures("own_documents")
def test_root_is_had_beside_a_run_as_user(lab: Lab, own_connect: Connect, prefer: Prefer) -> None:
    user(lab, "id alice 2>/dev/null || useradd -m alice")
    prefer(runAsEnabled=True, runAsDefaultUser="alice")
    assert own_connect().execute("id -un") == (0, b"alice\n", b"")
    assert own_connect(ansible_ssm_run_as="root").execute("id -un; pwd") == (0, b"root\n/root\n", b"")


def test_a_run_as_user_that_does_not_exist_is_named(own_connect: Connect, prefer: Prefer) -> None:
    prefer(runAsEnabled=True, runAsDefaultUser="nobody-here")
    with pytest.raises(AnsibleConnectionFailure, match="nobody-here does not exist"):
        own_connect(ansible_ssm_connection_timeout=15).execute("true")


@pytest.mark.parametrize(("shell", "document"), [("/bin/false", "auto"), ("/usr/bin/not-posix", PREFERENCES)])
def test_the_shell_of_the_user_does_not_matter(lab: Lab, own_connect: Connect, prefer: Prefer, shell: str, document: str) -> None:
    user(lab, "printf '#!/bin/sh\\necho no POSIX shell >&2; exit 9\\n' > /usr/bin/not-posix; chmod 755 /usr/bin/not-posix")
    user(lab, f"userdel -r carol 2>/dev/null; useradd -m -s {shell} carol")
    prefer(runAsEnabled=True, runAsDefaultUser="carol")
    connection = own_connect(ansible_ssm_document=document)
    assert connection.execute("printf %s \"$SHELL\"; echo problem >&2; exit 4") == (4, shell.encode(), b"problem\n")


@pytest.mark.parametrize(
    ("make", "home", "directory"),
    [("useradd -M dave", b"/home/dave", b"/"), ("useradd -m -d /var/lib/dave dave", b"/var/lib/dave", b"/var/lib/dave")],
    ids=["missing", "elsewhere"],
)
def test_home(lab: Lab, own_connect: Connect, own_controller: Controller, prefer: Prefer, make: str, home: bytes, directory: bytes) -> None:
    user(lab, f"userdel -r dave 2>/dev/null; {make}")
    prefer(runAsEnabled=True, runAsDefaultUser="dave")
    assert own_connect().execute('echo "$HOME"; pwd') == (0, home + b"\n" + directory + b"\n", b"")
    own_controller.hosts({"web-1": connection_variables(lab, "web-1")}, ansible_python_interpreter="/usr/bin/python3")
    assert own_controller.tasks({"name": "who", "ansible.builtin.command": "id -un"}).check().result("who")["stdout"] == "dave"
