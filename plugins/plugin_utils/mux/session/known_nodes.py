# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes on which a session has run before, in a file: the agent has made their `ssm-user`, so that two sessions may start at once.

Of a new node that is not so. Two agents' workers that both find no user make two of one name (github.com/aws/amazon-ssm-agent/issues/573): the name is
the second one's, and the home is the first one's for good.
"""

from __future__ import annotations

import contextlib


class KnownNodes:
    """Of all muxes of a user.

    :param path: of the file, whose folder exists, with a line for each node; `None`: nothing is kept.
    """

    LARGEST = 4_000_000
    """Bytes, some 100,000 nodes, from which on it begins anew."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._nodes: set[str] = set()
        if path is not None:
            with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                self._nodes.update(file.read().split())

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._nodes

    def add(self, node_id: str) -> None:
        """A session runs there."""
        if node_id in self._nodes:
            return
        self._nodes.add(node_id)
        if self._path is not None:
            with contextlib.suppress(OSError), open(self._path, "a", encoding="utf-8") as file:
                if file.tell() > self.LARGEST:
                    file.truncate(0)
                file.write(f"{node_id}\n")
