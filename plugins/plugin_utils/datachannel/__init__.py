# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of Session Manager sessions, without the session-manager-plugin.

``client.SessionClient`` is what the mux uses. All files but ``client`` and ``network`` are the protocol itself, without I/O.
"""

from __future__ import annotations
