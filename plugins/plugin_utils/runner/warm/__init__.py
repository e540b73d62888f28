# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module payloads run in forks of a warm interpreter, and their unchanged parts cross the wire once.

``payload`` recognises what ansible-core sends, ``archive`` takes the payload's zip apart, ``requests`` asks a runner for it
(controller). ``keeper`` (in the runner) and ``zygote`` (in the interpreter that is kept) are the node's side.
"""

from __future__ import annotations
