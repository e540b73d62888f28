# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of the lab: what runs behind a node's id. The service knows only `spawn_node` and `tests.lab.model.Node`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..model import Endpoints, Node, NodeSpec

__all__ = ["spawn_node"]


def spawn_node(spec: NodeSpec, lab_dir: Path, endpoints: Endpoints) -> Node:
    """The supervisor of a node that runs something; it is not started yet. Raises ValueError for the other kinds."""
    # Imported here: a node's pid 1 loads this package too, and needs nothing of the service.
    from ..model import NodeKind

    if spec.kind is NodeKind.PROCESS:
        from .process import ProcessNode

        return ProcessNode(spec, lab_dir, endpoints)
    if spec.kind is NodeKind.MACHINE:
        from .machine import MachineNode

        return MachineNode(spec, lab_dir, endpoints)
    if spec.kind is NodeKind.AGENT:
        from .real_agent import RealAgentNode

        return RealAgentNode(spec, lab_dir, endpoints)
    if spec.kind is NodeKind.WINDOWS:
        from .windows import WindowsNode

        return WindowsNode(spec, lab_dir, endpoints)
    raise ValueError(f"{spec.name}: nodes of kind {spec.kind} run nothing")
