# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dialect of posix.sh (to come)."""

from __future__ import annotations

from .python_link import PythonLink


class ShLink(PythonLink):
    def __init__(self, program: bytes, nonce: str, dead_man: float) -> None:
        raise NotImplementedError
