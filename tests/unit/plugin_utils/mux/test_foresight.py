# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errands that are answered before the node does: what is said is what the node then does, or nothing is built on it. With a real runner."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.errors import RequestError
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.lifecycle import Lifecycle
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.work import Action, Exec, Put, Work
from tests.unit.plugin_utils.mux.local_service import Gathered, LocalService
from tests.unit.plugin_utils.mux.test_node_channel import Opened, until
from tests.unit.plugin_utils.runner.warm import core
from tests.unit.plugin_utils.runner.warm.test_errands import chmod, mkdtemp, remove, shell

OWN_HOME = shell("expand_user", f"~{getpass.getuser()}")
NAMES = [f"ansible-tmp-1795408946.{number}-1234-98765" for number in range(10)]


class Node(Opened):
    """A channel, and the base of the temporary directories of its node."""

    def __init__(self, service: LocalService, base: Path) -> None:
        super().__init__(service)
        self.base = base

    def do(self, action: Action, content: bytes = b"", sink: Gathered | None = None) -> asyncio.Future[bytes]:
        sink = sink or Gathered()
        work = Work(action, sink, Lifecycle(3), silence=60)
        work.input += content
        work.input_ended = True
        self.channel.submit(work)
        return sink.result

    def say(self, line: str) -> asyncio.Future[bytes]:
        return self.do(Exec(line, tty=False, takes_input=False, warm=True))

    async def remove(self, name: str) -> tuple[object, bytes]:
        """Status and stderr."""
        sink = Gathered()
        await self.do(Exec(remove(f"{self.base}/{name}/"), tty=False, takes_input=False, warm=True), sink=sink)
        return sink.returncode, bytes(sink.stderr)

    def make(self, name: str) -> asyncio.Future[bytes]:
        return self.say(mkdtemp(str(self.base)).replace("ansible-tmp-1795408946.36-1234-98765", name))

    def put(self, name: str) -> asyncio.Future[bytes]:
        content = b"content"
        return self.do(Put(f"{self.base}/{name}/file", None, len(content), hashlib.sha256(content).hexdigest()), content)

    def module(self, name: str, proof: Path) -> asyncio.Future[bytes]:
        """One that uses the directory, and leaves a proof that it ran."""
        arguments = {"_raw_params": f"touch {proof} {proof}-{name}"}
        return self.do(Exec(core.command(), tty=False, takes_input=False, payload=core.payload("command", arguments), warm=True))

    def command(self, name: str, proof: Path) -> asyncio.Future[bytes]:
        return self.say(f"/bin/sh -c 'touch {proof}; echo {name}'")


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Node]:
    async with LocalService() as service:
        made = Node(service, folder / "base")
        await made.open()
        try:
            yield made
        finally:
            await made.channel.close()


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with opened(tmp_path) as made:
        yield made


async def test_what_is_told_ahead_is_what_the_node_does(node: Node) -> None:
    first, home, own = await node.make(NAMES[0]), await node.say(shell("expand_user", "~")), await node.say(OWN_HOME)
    assert first == f"{NAMES[0]}={node.base}/{NAMES[0]}\n".encode()
    node.session.deaf = True  # from here on no answer comes
    assert await node.say(shell("expand_user", "~")) == home
    assert await node.say(OWN_HOME) == own
    assert await node.make(NAMES[1]) == first.replace(NAMES[0].encode(), NAMES[1].encode())
    put = node.put(NAMES[1])
    assert await node.say(chmod(f"{node.base}/{NAMES[1]}/", f"{node.base}/{NAMES[1]}/file")) == b""
    await until(lambda: (node.base / NAMES[1] / "file").exists() and (node.base / NAMES[1] / "file").stat().st_mode & 0o700 == 0o700)
    assert not put.done(), "a file is not taken for stored before the node says so"
    assert (node.base / NAMES[1]).stat().st_mode & 0o777 == 0o700
    assert await node.say(remove(f"{node.base}/{NAMES[1]}/")) == b""
    await until(lambda: not (node.base / NAMES[1]).exists())
    node.session.deaf = False
    await put
    assert not node.channel.busy


async def test_only_what_is_known_is_told_ahead(node: Node, tmp_path: Path) -> None:
    others = [shell("expand_user", "~daemon"), shell("expand_user", "~no-such-user")]
    for other in others:
        await node.say(other)  # a task may move it, or make the user
    node.session.deaf = True
    answers = [
        *map(node.say, others),
        node.make(NAMES[0]),
        node.say(shell("expand_user", "~")),
        node.say(chmod(f"{tmp_path}/{NAMES[1]}")),
        node.say(remove(f"{tmp_path}/{NAMES[1]}/")),
    ]
    await asyncio.sleep(0.3)
    assert not any(answer.done() for answer in answers)
    node.session.deaf = False
    await asyncio.gather(*answers)


@pytest.mark.parametrize("what", ["put", "module", "command", "module after a module"])
async def test_nothing_is_built_on_a_directory_that_could_not_be_made(node: Node, tmp_path: Path, what: str) -> None:
    await node.make(NAMES[0])
    if what == "module after a module":
        await node.module(NAMES[0], tmp_path / "before")  # there is a warm interpreter now
    shutil.rmtree(node.base)
    node.base.write_text("in its way")
    assert await node.make(NAMES[1])
    proof = tmp_path / "ran"
    building = node.put(NAMES[1]) if what == "put" else node.command(NAMES[1], proof) if what == "command" else node.module(NAMES[1], proof)
    with pytest.raises(RequestError, match=rf"the temporary directory .*/{NAMES[1]} could not be made: mkdir: .*base"):
        await building
    with pytest.raises(RequestError, match="could not be made"):
        await node.module(NAMES[1], proof)
    assert not proof.exists()
    node.base.unlink()
    assert (await node.make(NAMES[2])).startswith(NAMES[2].encode()), "the next one is waited for"
    assert (node.base / NAMES[2]).is_dir()


async def test_a_directory_that_could_not_be_removed_is_told_by_the_next_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Core warns of a removal that fails. The one that it was told would succeed is over by then."""
    program = tmp_path / "rm"
    program.write_text(f"#!/bin/sh\ncase $* in *{NAMES[0]}*) exit 1; esac\nexec {shutil.which('rm')} \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with opened(tmp_path) as node:
        for name in NAMES[:3]:
            await node.make(name)
        (node.base / NAMES[0] / "folder").mkdir()
        assert await node.remove(NAMES[0]) == (0, b"")
        await until(lambda: "taken for done" in caplog.text)
        told = await node.remove(NAMES[1])
        assert repr(told[0]) == "1", "JSON has True as well"
        assert told == (1, f"a task before has left {node.base}/{NAMES[0]}/: the command ended with 1".encode())
        assert not (node.base / NAMES[1]).exists()
        node.session.deaf = True
        assert await node.remove(NAMES[2]) == (0, b""), "it was told once"
        node.session.deaf = False


async def test_a_module_does_not_wait_for_its_directory(node: Node, tmp_path: Path) -> None:
    await node.make(NAMES[0])
    await node.module(NAMES[0], tmp_path / "first")
    node.session.deaf = True
    await node.make(NAMES[1])
    answer = node.module(NAMES[1], tmp_path / "second")
    await until((tmp_path / "second").exists)
    node.session.deaf = False
    assert json.loads(await answer)["rc"] == 0
