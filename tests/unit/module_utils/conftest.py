# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS as modules meet it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.unit.module_utils.api import Api


@pytest.fixture(scope="session")
def one_api() -> Iterator[Api]:
    with contextlib.closing(Api()) as made:
        yield made


@pytest.fixture
def api(one_api: Api) -> Api:
    """Answers nothing as yet."""
    one_api.answer()
    return one_api
