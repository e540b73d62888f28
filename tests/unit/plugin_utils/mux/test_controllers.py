# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which workers of a controller may still come: real processes, forked as Ansible forks them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.controllers import Controllers

pytestmark = pytest.mark.skipif(not os.path.exists(f"/proc/self/task/{os.getpid()}/children"), reason="the kernel does not tell of children")


_CONTROLLER = """
import os, signal, sys
for _worker in range(3):
    pid = os.fork()
    if not pid:
        signal.pause()
    print(pid, flush=True)
sys.stdin.read()
"""


@dataclass
class Controller:
    """A process that has forked three workers, and does not look whether they live."""

    pid: int
    workers: list[int]

    def end(self, number: int) -> None:
        """End a worker."""
        os.kill(self.workers[number], signal.SIGKILL)
        while Path(f"/proc/{self.workers[number]}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)

    def on_their_way(self, controllers: Controllers) -> int:
        """How many of its workers may still come."""
        time.sleep(0.06)  # a look holds for a moment
        forks = controllers.forks([self.pid])
        assert forks is not None
        return len(forks.on_their_way)


@pytest.fixture
def controller() -> Iterator[Controller]:
    with subprocess.Popen([sys.executable, "-c", _CONTROLLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [int(process.stdout.readline()) for _worker in range(3)]
        yield Controller(process.pid, workers)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)


def test_a_worker_is_a_fork_and_no_other_program(controller: Controller) -> None:
    controllers = Controllers()
    for pid in (*controller.workers, controller.pid):
        controllers.joined(pid)
    worker = controllers.worker(controller.workers[0])
    assert worker is not None and worker.parent == controller.pid
    assert 0 <= time.monotonic() - worker.forked < 60
    assert controllers.worker(controller.pid) is None
    assert controllers.worker(0) is None


def test_those_are_on_their_way_that_do_not_wait_here(controller: Controller) -> None:
    controllers = Controllers()
    first = controller.workers[0]
    controllers.joined(first)
    assert controller.on_their_way(controllers) == 3
    controllers.waits(first)
    assert controller.on_their_way(controllers) == 2
    controllers.answered(first)
    assert controller.on_their_way(controllers) == 3, "it may have a second request"


def test_a_worker_that_has_left_or_ended_does_not_come(controller: Controller) -> None:
    controllers = Controllers()
    controllers.joined(controller.workers[0])
    controllers.left(controller.workers[0])
    assert controller.on_their_way(controllers) == 2
    controller.end(1)
    assert controller.on_their_way(controllers) == 1


def test_a_worker_sets_out_anew_with_each_answer(controller: Controller) -> None:
    controllers = Controllers()
    first = controller.workers[0]
    controllers.joined(first)
    worker = controllers.worker(first)
    assert worker is not None
    assert controllers.set_out(worker) == worker.forked
    controllers.waits(first)
    before = time.monotonic()
    controllers.answered(first)
    assert controllers.set_out(worker) >= before


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert Controllers().forks([gone.pid]) is None
