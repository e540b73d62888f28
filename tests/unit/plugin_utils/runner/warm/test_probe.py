# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module can see of its process is the same in a warm interpreter as in one of its own, but for ALLOWED."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Callable
from typing import Any

import pytest

from ..local_node import Result
from .node import WarmNode

Seen = dict[str, Any]

# What may differ, how it must then differ, and why.
ALLOWED: dict[str, Callable[[Any, Any], bool]] = {
    # Modules of the standard library are there before the payload asks for them.
    "modules": lambda cold, warm: set(cold) <= set(warm),
    # For the same reason the directories that were searched differ, and the current one (whose files cannot be meant) need not be.
    "importers": lambda cold, warm: {name for name in cold if "/" in name.strip("/")} <= set(warm),
    # Between the leader of the session and the module is one process in place of a chain of shells and sudo.
    "session": lambda cold, warm: {**cold, "parent leads group": True} == warm,
    # Two frames of the zygote are below the wrapper's. A traceback does not show them.
    "stack": lambda cold, warm: warm[: len(cold)] == cold and warm[len(cold) :] == [["<zygote>", "<module>"], ["<stdin>", "<module>"]],
    # What was there before the fork is not looked at by the garbage collector.
    "frozen": lambda cold, warm: warm,
    # Random numbers are not those of another process.
    "random": lambda cold, warm: all(one != other for one, other in zip(cold, warm, strict=True)),
}


def probe(result: Result) -> Seen:
    assert result.rc == 0, result
    text = result.stdout.decode()
    text = re.sub(r"BECOME-SUCCESS-[a-z]{32}", "BECOME-SUCCESS", text)
    text = re.sub(r"_payload_[a-z0-9_]{8}/", "_payload/", text)
    text = re.sub(r"ansible-moduletmp-[\d.]+-[a-z0-9_]{8}", "ansible-moduletmp", text)
    seen = json.loads(json.loads(text[text.index("{") :])["probe"])
    return json.loads(re.sub(r"0x[0-9a-f]+", "0x", json.dumps(seen)))  # type: ignore[no-any-return]


def compare(cold: Result, warm: Result) -> Seen:
    ours, theirs = probe(cold), probe(warm)
    assert ours.keys() == theirs.keys()
    different = {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}
    for name, allowed in ALLOWED.items():
        assert allowed(ours[name], theirs[name]), (name, ours[name], theirs[name])
        different.pop(name, None)
    assert different == {}
    assert cold.stderr == warm.stderr
    return theirs


def test_same(node: WarmNode) -> None:
    assert compare(*node.both("probe", {"text": "ä\n'\"\\ \U0001f600"}))["text"] == "ä\n'\"\\ \U0001f600"


def test_same_again(node: WarmNode) -> None:
    """The second and later jobs of an interpreter are as the first."""
    for number in range(3):
        assert compare(*node.both("probe", {"text": str(number)}))["text"] == str(number)


def test_environment_of_the_task(node: WarmNode) -> None:
    environment = {"FOO": "a 'b' c", "http_proxy": "http://proxy:1", "EMPTY": ""}
    seen = compare(*node.both("probe", environment=environment))
    assert seen["environment"].items() >= environment.items()
    assert "FOO" not in compare(*node.both("probe"))["environment"]


@pytest.mark.parametrize(
    "environment", [{"LANG": "C", "LC_ALL": "C"}, {"PYTHONUTF8": "1", "LC_ALL": "POSIX"}, {"TZ": "Asia/Tokyo"}, {"PYTHONWARNINGS": "always", "HOME": "/"}]
)
def test_environment_of_the_interpreter(node: WarmNode, environment: dict[str, str]) -> None:
    """What an interpreter reads when it starts."""
    seen = compare(*node.both("probe", environment=environment))
    assert seen["environment"].items() >= environment.items()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("user", ["root", "nobody"])
def test_become(node: WarmNode, user: str) -> None:
    for _task in range(2):
        cold, warm = node.both("probe", become="sudo", become_user=user)
        seen = compare(cold, warm)
        assert seen["users"][0] == [pwd.getpwnam(user).pw_uid] * 3
        assert re.fullmatch(rb"BECOME-SUCCESS-[a-z]{32}\n", warm.stdout[: warm.stdout.index(b"\n") + 1])
        assert "BECOME-SUCCESS" in seen["environment"]["SUDO_COMMAND"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_become_with_terminal(node: WarmNode) -> None:
    """With a terminal of the command's own, sudo may use a second one, and the module is in its foreground."""
    from . import core

    results = []
    for run in (node.cold, node.warm):
        results.append(run(core.command("sudo", become_user="nobody"), core.payload("probe"), tty=True))
    compare(results[0], results[1])
