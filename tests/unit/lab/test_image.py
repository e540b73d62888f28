# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root of machine nodes is made by programs that go with whoever wanted it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import psutil
import pytest

from tests.lab.nodes.image import root_image
from tests.unit.processes import wait_gone


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one, which begins by removing what is there, would meet the first's processes."""
    with socket.create_server(("127.0.0.1", 0)) as mirror:  # never answers
        monkeypatch.setenv("FLEET_SSM_LAB_CACHE", str(tmp_path))
        monkeypatch.setenv("FLEET_SSM_LAB_MIRROR", f"http://127.0.0.1:{mirror.getsockname()[1]}")
        making = asyncio.create_task(root_image())
        mirror.setblocking(False)
        connection, _address = await asyncio.get_running_loop().sock_accept(mirror)
        started = [process.pid for process in psutil.process_iter(["cmdline"]) if any(str(tmp_path) in part for part in process.info["cmdline"] or [])]
        assert len(started) > 1, "debootstrap and what it started"
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert all(wait_gone(pid) for pid in started)
        connection.close()
