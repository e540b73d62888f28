# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .node import WarmNode


@pytest.fixture(scope="module")
def node() -> Iterator[WarmNode]:
    with WarmNode() as node:
        yield node
