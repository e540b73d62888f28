# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSM's actions that moto lacks, one file for each part of the service. Importing this package registers them all."""

from __future__ import annotations

from . import activations, agent, commands, documents, instances, send_command, service_settings, sessions, tags  # noqa: F401  (registration)
from .registry import HANDLERS, SELF_AUTHORIZED, Call

__all__ = ["HANDLERS", "SELF_AUTHORIZED", "Call"]
