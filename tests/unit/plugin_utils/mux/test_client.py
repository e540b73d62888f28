# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's end: whose worker it is."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import FrameType, encode
from tests.integration.controller import MUX

WORKER = """
import os, socket, sys, time
sys.path.insert(0, sys.argv[1])
from plugins.plugin_utils.mux.client import MuxClient, MuxError
if os.fork():
    time.sleep(60)  # until it is killed
client = MuxClient(socket.socket(fileno=int(sys.argv[2])), patience=60)
exchange = client.exec("make noise")
os.write(1, b"begun")
try:
    while True:
        exchange.next_event()
except MuxError as error:
    os.write(1, str(error).encode())
"""


@pytest.mark.parametrize("chatty", [False, True])
def test_a_worker_whose_ansible_was_killed_ends_whatever_the_command_says(chatty: bool) -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", WORKER, str(MUX.parents[2]), str(theirs.fileno())]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE) as ansible:
        theirs.close()
        assert ansible.stdout is not None and os.read(ansible.stdout.fileno(), 5) == b"begun"
        ansible.kill()
        if chatty:
            threading.Thread(target=write_lines, args=[ours], daemon=True).start()
        assert ansible.stdout.read() == b"the controller is gone"


def write_lines(to: socket.socket) -> None:
    deadline = time.monotonic() + 15
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            to.sendall(encode(FrameType.STDOUT, b"line\n"))
            time.sleep(0.1)
