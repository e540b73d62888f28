# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Process nodes without the machine's root: in a user namespace. Here root is the only user in it, which is the least there is."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.integration.controller import REPOSITORY

PROGRAM = """
import json
from tests.lab import Lab

with Lab(1) as lab:
    node = lab.nodes()[0]
    found = node.run("id -u; hostname; ls -A /home /root /opt; cat /etc/hostname; stat -c %u /etc/passwd; echo x > /etc/x; rm /etc/os-release; echo changed")
    node.reboot()
    again = node.run("cat /etc/x; test -e /etc/os-release || echo gone")
    print(json.dumps([found.stdout.split(), again.stdout.split(), node.connected, str(lab.folder)]))
"""


def test_process_node_in_a_user_namespace() -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found, again, connected, folder = json.loads(done.stdout)
    assert found == ["0", "web-1", "/home:", "/opt:", "/root:", "web-1", "0", "changed"]
    assert again == ["x", "gone"]
    assert connected
    assert subprocess.run(["ls", "-d", folder], capture_output=True, check=False).returncode != 0, "the folder is left"
