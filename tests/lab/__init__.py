# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An AWS account on one machine: endpoint, Session Manager, nodes, and faults on demand.

`with Lab() as lab:` for tests, `python -m tests.lab up` for people.
"""

from __future__ import annotations

from .client import Fault, Lab, LabError, LabNode, Requests
from .model import NodeKind, NodeUser
from .spec import NodeDefinition

__all__ = ["Fault", "Lab", "LabError", "LabNode", "NodeDefinition", "NodeKind", "NodeUser", "Requests"]
