# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker pays for no SDK, and the mux runs without Ansible."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.integration.controller import COLLECTIONS, MUX

ROOT = MUX.parents[2]
HEAVY = {"asyncio", "boto3", "botocore", "cryptography", "s3transfer", "ssl", "urllib3", "websockets"}


def modules_after(code: str, path: Path) -> set[str]:
    """The top-level modules of a new interpreter that ran some code."""
    report = "import json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    program = f"import sys; sys.path.insert(0, {str(path)!r})\n{code}\n{report}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_workers_client_is_light() -> None:
    assert not HEAVY & modules_after("import plugins.plugin_utils.mux.client", ROOT)


def test_the_connection_plugin_adds_no_sdk_to_ansible() -> None:
    loader = (
        f"import ansible.plugins.loader as loader; loader.init_plugin_loader([{str(COLLECTIONS)!r}])\n"
        "from ansible.playbook.play_context import PlayContext\nbefore = set(sys.modules)\n"
    )
    report = "found = {name.partition('.')[0] for name in set(sys.modules) - before}\nimport json; print(json.dumps(sorted(found)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{loader}assert loader.connection_loader.get('fleet.ssm.ssm', PlayContext())\n{report}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not HEAVY & set(json.loads(done.stdout))


def test_the_mux_runs_without_ansible() -> None:
    everything = "from plugins.plugin_utils.mux import daemon, doctor, server; from plugins.plugin_utils.mux.aws.service_models import preload; preload()"
    assert not {"ansible", "ansible_collections"} & modules_after(everything, ROOT)
