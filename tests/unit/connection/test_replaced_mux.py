# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mux that ends while a worker connects: seen from the worker, at the socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux import start
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.places import make_directories, socket_path
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import VERSION, Decoder, FrameType, encode_json
from tests.integration.direct import DirectConnection

FACTS = {"user": "ssm-user", "node": "i-1", "region": "eu-central-1", "document": "D", "session": "s-1"}


class Endings:
    """In the place of a mux: welcomes, and ends without an answer to each of the first openings."""

    def __init__(self, folder: str, endings: int) -> None:
        path = socket_path(folder)
        make_directories(path)
        self.openings = 0
        self._endings = endings
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            peer, _unused = self._listener.accept()
            decoder, open_still = Decoder(), True
            while open_still and (data := peer.recv(65536)):
                for kind, _payload in decoder.feed(data):
                    if kind is FrameType.HELLO:
                        peer.sendall(encode_json(FrameType.WELCOME, version=VERSION, digest="", pid=os.getpid()))
                    elif kind is FrameType.OPEN:
                        self.openings += 1
                        open_still = self.openings > self._endings
                        if open_still:
                            peer.sendall(encode_json(FrameType.OPENED, **FACTS))
            peer.close()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[DirectConnection]:
    variables = {"ansible_ssm_host": "i-01234567", "ansible_ssm_control_path_dir": str(tmp_path)}
    with DirectConnection(tmp_path, {}, variables) as made:
        yield made


def test_opening_is_repeated_once_since_it_runs_nothing(connection: DirectConnection, tmp_path: Path) -> None:
    mux = Endings(str(tmp_path), 1)
    assert connection.plugin.default_user == "ssm-user"
    assert mux.openings == 2


def test_there_is_nothing_to_reset_in_a_mux_that_hangs(connection: DirectConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "GREETING_TIMEOUT", 0.2)
    path = socket_path(str(tmp_path))
    make_directories(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        connection.plugin.reset()  # the next task replaces it


def test_opening_is_not_repeated_for_ever(connection: DirectConnection, tmp_path: Path) -> None:
    mux = Endings(str(tmp_path), 100)
    with pytest.raises(AnsibleConnectionFailure, match="nothing was run"):
        connection.plugin._connect()
    assert mux.openings == 2
