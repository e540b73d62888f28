# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-core's own code makes is recognised; what is nearly that is not."""

from __future__ import annotations

import base64
import random
import re
import shlex
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm import archive, payload
from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm.payload import Recipes, WarmJob, split

from . import core

ENVIRONMENT = {"FOO": "a 'b' \"c\" $d `e` \\", "EMPTY": "", "http_proxy": "http://u:p@h:1/", "TWO": "two\nlines", "UMLAUT": "ß"}


@pytest.fixture(scope="module")
def command_payload() -> bytes:
    return core.payload("command", {"_raw_params": "id", "_uses_shell": False})


def rebuilt(job: WarmJob) -> bytes:
    """The payload as the node would put it together."""
    blob = job.recipe.blobs[job.recipe.key]
    parts = []
    while blob:
        size = int.from_bytes(blob[:4], "big")
        parts.append(blob[4 : 4 + size])
        blob = blob[4 + size :]
    order, *pieces, skeleton, hashes = parts
    members = [job.recipe.blobs[hashes[at : at + 32]] for at in range(0, len(hashes), 32)]
    fillings = {"z": base64.b64encode(archive.join(skeleton, members, job.time)).decode(), "d": job.date, "p": job.params}
    text = pieces[0].decode()
    for name, piece in zip(order.decode(), pieces[1:], strict=True):
        text += fillings[name] + piece.decode()
    return text.encode()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"text": "it's \"quoted\" \\ and\nhas lines\0"},
        {"text": "\n\n\nif __name__ == \"__main__\":\n    _ansiballz_main(\n"},
        {"text": "ä\u2028\U0001f600\ud800"},
        {"list": [1, 2.5, None, True, {"a": "zip_data='x',\n)\n"}]},
        {"text": "x" * 300_000},
    ],
)
def test_arguments(arguments: dict[str, Any]) -> None:
    data = core.payload("ping", arguments)
    job = split(core.command(), data, Recipes())
    assert job is not None
    assert rebuilt(job) == data
    assert len(job.encode()) < len(job.params) + 300


@pytest.mark.parametrize("module", ["command", "stat", "file", "copy", "setup", "apt", "package_facts", "async_wrapper", "ends", "probe"])
def test_modules(module: str) -> None:
    data = core.payload(module)
    job = split(core.command(), data, Recipes())
    assert job is not None
    assert rebuilt(job) == data


def test_repeated_task_has_little_that_is_new() -> None:
    recipes = Recipes()
    jobs = [split(core.command(), core.payload("stat", {"path": path}), recipes) for path in ("/etc", "/its-own")]
    other = split(core.command(), core.payload("file", {"path": "/etc"}), recipes)
    assert jobs[0] is not None
    assert jobs[1] is not None
    assert other is not None
    assert jobs[0].recipe is jobs[1].recipe
    assert not any(b"/its-own" in blob for blob in jobs[1].recipe.blobs.values())
    new = [blob for name, blob in other.recipe.blobs.items() if name not in jobs[0].recipe.blobs]
    assert sum(map(len, new)) < 40_000


def test_recipe_is_the_same_in_another_run(command_payload: bytes) -> None:
    """The time stamps are all that a run changes in the zip."""
    text = command_payload.decode()
    zip_data = max(re.findall("[A-Za-z0-9+/=]+", text), key=len)
    parts = archive.split(base64.b64decode(zip_data))
    assert parts is not None
    later = base64.b64encode(archive.join(parts.skeleton, parts.members, b"\1\2\3\4")).decode()
    recipes = Recipes()
    one, other = split(core.command(), command_payload, recipes), split(core.command(), text.replace(zip_data, later).encode(), recipes)
    assert one is not None
    assert other is not None
    assert one.recipe.key == other.recipe.key
    assert (other.time, rebuilt(other)) == (b"\1\2\3\4", text.replace(zip_data, later).encode())


def test_recipes_are_forgotten(command_payload: bytes) -> None:
    recipes = Recipes(limit=2)
    for module in ("command", "stat", "file", "command"):
        assert split(core.command(), core.payload(module), recipes)
    assert len(recipes._recipes) == 2


BECOME: dict[str, list[dict[str, str]]] = {
    "sudo": [
        {}, {"become_user": "nobody"}, {"become_pass": "secret"}, {"become_flags": ""}, {"become_flags": "-E -H --login"}, {"become_exe": "/usr/bin/sudo"},
    ],
    "su": [{}, {"become_user": "nobody"}, {"become_flags": "-l"}],
    "community.general.doas": [{}, {"become_pass": "secret"}, {"become_user": "nobody", "become_exe": "/usr/bin/doas"}],
    "community.general.sudosu": [{}, {"become_pass": "secret"}, {"become_user": "nobody"}],
}


@pytest.mark.parametrize("environment", [{}, ENVIRONMENT, {"LANG": "C"}], ids=["plain", "variables", "LANG"])
@pytest.mark.parametrize(("become", "options"), [(None, {}), *((name, options) for name, many in BECOME.items() for options in many)])
def test_commands(become: str | None, options: dict[str, str], environment: dict[str, str], command_payload: bytes) -> None:
    texts = [core.command(become, environment=environment, **options) for _task in range(2)]
    jobs = [split(text, command_payload, Recipes()) for text in texts]
    assert jobs[0] is not None
    assert jobs[1] is not None
    # Two tasks share an interpreter.
    assert jobs[0].key == jobs[1].key
    for job, text in zip(jobs, texts, strict=True):
        if become:
            assert re.fullmatch("BECOME-SUCCESS-[a-z]{32}", job.success)
            assert job.success in text
            assert "secret" not in text
            assert job.key == job.command.replace(job.success[-32:], "*")
        else:
            assert job.success == ""
            assert job.key == text
        assert job.command == text
        assert job.special == bool(environment)


def test_keys_differ(command_payload: bytes) -> None:
    texts = [core.command(become, **options) for become, many in BECOME.items() for options in many]
    texts += [core.command(), core.command(environment={"LANG": "C"}), core.command(environment={"LANG": "D"}), core.command(interpreter="/usr/bin/python3.11")]
    jobs = [split(text, command_payload, Recipes()) for text in texts]
    assert len({job.key for job in jobs if job}) == len(texts)


@pytest.mark.parametrize(
    "script",
    [
        "/usr/bin/python3 -E",
        "/usr/bin/python3 /root/.ansible/tmp/AnsiballZ_stat.py",
        "python3",
        "/usr/bin/perl",
        "/usr/bin/python3;id",
        "/usr/bin/python3 && sleep 1",
        "/usr/bin/python3  && sleep 0",
        " /usr/bin/python3",
        "cd /tmp && /usr/bin/python3",
        "FOO=$HOME /usr/bin/python3",
        "FOO=`id` /usr/bin/python3",
        "FOO='a'b /usr/bin/python3",
        "FOO=a\n/usr/bin/python3",
        "/usr/bin/python3\n",
        "sudo -u root /bin/sh -c 'echo BECOME-SUCCESS-short ; /usr/bin/python3'",
        f"sudo -u root /bin/sh -c 'echo BECOME-SUCCESS-{'a' * 32}; /usr/bin/python3'",
        f"sudo -u root /bin/sh -c 'echo BECOME-SUCCESS-{'a' * 32} ; id; /usr/bin/python3'",
        f"sudo -u root /bin/sh -c 'echo BECOME-SUCCESS-{'a' * 32} ; /usr/bin/python3'; id",
        f"sudo -u $USER /bin/sh -c 'echo BECOME-SUCCESS-{'a' * 32} ; /usr/bin/python3'",
        f"sudo -u root sh -c 'echo BECOME-SUCCESS-{'a' * 32} ; /usr/bin/python3' -c 'x'",
        f"env X=1 sudo -u root /bin/sh -c 'echo BECOME-SUCCESS-{'a' * 32} ; /usr/bin/python3'",
        f'sudo -p "[sudo via ansible, key={"b" * 32}] password:" -u root /bin/sh -c \'echo BECOME-SUCCESS-{"a" * 32} ; /usr/bin/python3\'',
        f"cd /tmp && sudo -u root /bin/sh -c 'echo BECOME-SUCCESS-{'a' * 32} ; /usr/bin/python3'",
        f"dzdo -u root /bin/sh -c 'echo BECOME-SUCCESS-{'a' * 32} ; /usr/bin/python3'",
    ],
)
def test_other_scripts(script: str, command_payload: bytes) -> None:
    assert split(f"/bin/sh -c {shlex.quote(script)}", command_payload, Recipes()) is None


@pytest.mark.parametrize(
    "text",
    ["/usr/bin/python3", "/bin/sh -c '/usr/bin/python3'", "/bin/sh -c /usr/bin/python3 x", "sh -c /usr/bin/python3", "", "/bin/sh -c \"/usr/bin/python3\""],
)
def test_other_commands(text: str, command_payload: bytes) -> None:
    assert split(text, command_payload, Recipes()) is None


def test_changed_commands(command_payload: bytes) -> None:
    """A command with any character changed is refused, or is a job that starts with that very command."""
    source, text = random.Random(3), core.command("sudo", become_user="nobody")
    for _change in range(2000):
        at = source.randrange(len(text))
        changed = text[:at] + source.choice("'\"\\;&|$ \n`()<>a/-=*") + text[at + 1 :]
        job = payload._parse_command(changed)
        assert job is None or job.text() == changed


def test_other_payloads(command_payload: bytes) -> None:
    text = command_payload.decode()
    zip_data = max(re.findall("[A-Za-z0-9+/=]+", text), key=len)
    for changed in [
        "print('hello')\n",
        "#!powershell\n$x = 1\n",
        "",
        text[:-1],
        text + "\n",
        text + "print()\n",
        text.replace(zip_data, zip_data[:-8]),
        text.replace(zip_data, "*" + zip_data[1:]),
        text.replace("_ANSIBALLZ_WRAPPER", "_ANSIBALL_WRAPPER"),
        text.replace("extensions={}", "extensions={'_coverage': {}}"),
        text.replace("params='", "params=f'").replace("ANSIBALLZ_PARAMS = '", "ANSIBALLZ_PARAMS = f'"),
        text.replace("params='", "params=''+'").replace("ANSIBALLZ_PARAMS = '", "ANSIBALLZ_PARAMS = ''+'"),
    ]:
        if changed != text:
            assert split(core.command(), changed.encode(), Recipes()) is None
    assert split(core.command(), command_payload + b"\xff", Recipes()) is None
