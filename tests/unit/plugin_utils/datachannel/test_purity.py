# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The core of the protocol does no I/O and reads no clock; only then can it be tested byte by byte."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils import datachannel

PACKAGE = Path(datachannel.__file__).parent
WITH_IO = {"client.py"}
FORBIDDEN = {"asyncio", "datetime", "logging", "random", "select", "selectors", "socket", "ssl", "subprocess", "threading", "time", "websockets"}
CORE = sorted(path.name for path in PACKAGE.glob("*.py") if path.name not in WITH_IO)


def test_there_is_a_core() -> None:
    assert {"message.py", "channel.py", "outgoing.py", "incoming.py", "handshake.py", "encryption.py"} <= set(CORE)


@pytest.mark.parametrize("name", CORE)
def test_core_files_import_neither_io_nor_clock(name: str) -> None:
    imported = set()
    of_os = set()
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = {node.module} if node.module else {alias.name for alias in node.names}
            assert not names & {"client", "module_utils.network"}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            of_os.add(node.attr)
    assert not imported & FORBIDDEN
    assert of_os <= {"urandom"}


def test_no_file_depends_on_ansible_or_botocore() -> None:
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & {"ansible", "ansible_collections", "boto3", "botocore"}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                assert str(node.module).partition(".")[0] not in {"ansible", "ansible_collections", "boto3", "botocore"}
