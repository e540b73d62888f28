# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks of the route run_command: which of them are equal, so that one command is for all, and which are nobody else's business."""

from __future__ import annotations

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.content import Content
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.task import CommandTask
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.errors import RequestError
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.lifecycle import Lifecycle
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.protocol import FrameType
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.work import Action, Exec, Get, Put, Work
from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand.sameness import Commons


class Sink:
    """Nobody waits."""

    def output(self, kind: FrameType, data: bytes) -> None: ...

    def credit(self, count: int) -> None: ...

    def done(self, kind: FrameType, **fields: object) -> None: ...

    def failed(self, error: RequestError) -> None: ...


def task(action: Action, node_id: str = "i-1", **options: bool) -> CommandTask:
    work = Work(action, Sink(), Lifecycle(0), silence=60)
    return CommandTask.of(work, node_id, ConnectionOptions(node_id, **options), Content(), Commons(), "a test")  # type: ignore[arg-type]


def actions(private: bool) -> list[Action]:
    return [
        Exec("id", tty=False, takes_input=False, private=private), Put("/f", None, 0, None, private=private), Get("/f", private=private),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", range(3))
def test_a_private_task_shares_no_command_with_an_open_one(kind: int) -> None:
    private, open_ = (task(actions(private)[kind]) for private in (True, False))
    assert private.key != open_.key
    assert private.key == task(actions(True)[kind], "i-2").key


@pytest.mark.parametrize("kind", range(3))
def test_whatever_is_done_is_private_with_no_log_unless_that_is_accepted(kind: int) -> None:
    action = actions(True)[kind]
    assert task(action).is_private and not task(action, expose_secrets=True).is_private
    assert not task(actions(False)[kind]).is_private
