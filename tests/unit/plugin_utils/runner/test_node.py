# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.client import RunnerClient

from .local_node import LocalNode


def test_one() -> None:
    with LocalNode(RunnerClient()) as node:
        result = node.run("printf 'a\\nb'; printf 'x' >&2; exit 3")
        assert (result.stdout, result.stderr, result.rc) == (b"a\nb", b"x", 3)
