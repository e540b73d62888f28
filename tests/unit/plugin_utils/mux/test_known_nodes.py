# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that had a session are known to the next mux as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.session.known_nodes import KnownNodes


def test_a_node_is_known_to_the_next_mux(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    one, other = KnownNodes(str(path)), KnownNodes(str(path))
    assert "i-1" not in one
    one.add("i-1")
    one.add("i-1")
    other.add("mi-2")
    assert path.read_text() == "i-1\nmi-2\n"
    later = KnownNodes(str(path))
    assert [name in later for name in ("i-1", "mi-2", "i-")] == [True, True, False]


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnownNodes, "LARGEST", 19)
    path = tmp_path / "nodes"
    nodes = KnownNodes(str(path))
    for number in range(6):
        nodes.add(f"i-{number}")
    assert path.read_text() == "i-5\n"
    assert "i-0" in nodes


def test_a_file_that_cannot_be_used_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, None):
        nodes = KnownNodes(str(path) if path else None)
        nodes.add("i-1")
        assert "i-1" in nodes
