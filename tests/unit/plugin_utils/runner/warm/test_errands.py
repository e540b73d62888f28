# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An errand leaves what its command leaves: in the file system, on its streams, and as its status."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.warm import payload

from ..local_node import Result
from . import core
from .node import WarmNode

NAME = "ansible-tmp-1795408946.36-1234-98765"
PLACE = "/tmp/fleet-ssm-errands"
HOME = Path(pwd.getpwuid(os.getuid()).pw_dir, ".ansible/tmp", NAME)


def shell(method: str, *args: Any, **options: Any) -> str:
    """The command as core's shell plugin and ActionBase build it."""
    import ansible
    from ansible.plugins.loader import shell_loader

    core.command()  # sets up the loader
    plugin = shell_loader.get("sh")
    plugin.set_options()
    text = getattr(plugin, method)(*args, **options)
    if ansible.__version__ < "2.21":
        text = plugin.append_command(text, "sleep 0")
    return f"/bin/sh -c {shlex.quote(text)}"


def mkdtemp(base: str) -> str:
    return shell("mkdtemp", basefile=NAME, tmpdir=base)


def chmod(*paths: str) -> str:
    return shell("chmod", list(paths), "u+rwx")


def remove(path: str) -> str:
    return shell("remove", path, recurse=True)


def folder(path: str) -> None:
    os.makedirs(f"{PLACE}/{path}")


def file(path: str, mode: int = 0o644) -> None:
    folder(os.path.dirname(path)) if not os.path.isdir(f"{PLACE}/{os.path.dirname(path)}") else None
    Path(f"{PLACE}/{path}").write_text("x")
    os.chmod(f"{PLACE}/{path}", mode)


def rules() -> None:
    folder("base")
    subprocess.run(["setfacl", "-d", "-m", "u:nobody:rwx,m::rwx", f"{PLACE}/base"], check=True)


needs_setfacl = pytest.mark.skipif(shutil.which("setfacl") is None, reason="needs setfacl")

CASES: dict[str, tuple[str, Callable[[], Any]]] = {
    "the session's user": (shell("expand_user", "~"), lambda: None),
    "a user": (shell("expand_user", "~daemon"), lambda: None),
    "no user": (shell("expand_user", "~nobodyofthatname"), lambda: None),
    "folder is missing": (mkdtemp(f"{PLACE}/a/b/.ansible/tmp"), lambda: None),
    "folder is there": (mkdtemp(f"{PLACE}/base"), lambda: folder("base")),
    "home": (mkdtemp("~/.ansible/tmp"), lambda: HOME.exists() and HOME.rmdir()),
    "name is there": (mkdtemp(f"{PLACE}/base"), lambda: folder(f"base/{NAME}")),
    "folder is a file": (mkdtemp(f"{PLACE}/base"), lambda: file("base")),
    "folder is a link": (mkdtemp(f"{PLACE}/base"), lambda: (folder("real"), os.symlink("real", f"{PLACE}/base"))),
    "folder is a dead link": (mkdtemp(f"{PLACE}/base"), lambda: os.symlink("none", f"{PLACE}/base")),
    "folder for a group": (mkdtemp(f"{PLACE}/base/more"), lambda: (folder("base"), os.chmod(f"{PLACE}/base", 0o2775))),
    "chmod": (chmod(f"{PLACE}/d/", f"{PLACE}/d/f"), lambda: (file("d/f", 0o4051), os.chmod(f"{PLACE}/d", 0o2010))),
    "chmod of nothing": (chmod(f"{PLACE}/f", f"{PLACE}/none", f"{PLACE}/g"), lambda: (file("f", 0), file("g", 0))),
    "chmod of a link": (chmod(f"{PLACE}/l"), lambda: (file("f", 0), os.symlink("f", f"{PLACE}/l"))),
    "remove": (remove(f"{PLACE}/{NAME}/"), lambda: (file(f"{NAME}/f", 0), file(f"{NAME}/.g", 0))),
    "remove nothing": (remove(f"{PLACE}/{NAME}/"), lambda: None),
    "remove a tree": (remove(f"{PLACE}/{NAME}/"), lambda: (file(f"{NAME}/f"), file(f"{NAME}/a/b/c"))),
    "remove a link": (remove(f"{PLACE}/{NAME}"), lambda: (file("real/f"), os.symlink("real", f"{PLACE}/{NAME}"))),
    "remove a file": (remove(f"{PLACE}/{NAME}"), lambda: file(NAME)),
    "remove what links out": (remove(f"{PLACE}/{NAME}/"), lambda: (file("real/f"), folder(NAME), os.symlink("../real", f"{PLACE}/{NAME}/l"))),
}


def state() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for above, folders, files in os.walk(PLACE):
        for name in (".", *folders, *files):
            path = os.path.normpath(os.path.join(above, name))
            entry = os.lstat(path)
            content = os.readlink(path) if stat.S_ISLNK(entry.st_mode) else Path(path).read_bytes() if stat.S_ISREG(entry.st_mode) else None
            attributes = sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False))
            found[path] = (oct(entry.st_mode), entry.st_uid, entry.st_gid, entry.st_nlink, content, attributes)
    return found


@pytest.fixture(scope="module", params=[0o022, 0o077, 0o000], ids=oct)
def node(request: pytest.FixtureRequest) -> Any:
    umask = os.umask(request.param)
    with WarmNode() as node:
        os.umask(umask)
        yield node
    if HOME.exists():
        HOME.rmdir()


def outcomes(node: WarmNode, command: str, prepare: Callable[[], Any]) -> list[tuple[Any, ...]]:
    errand = payload.errand(command)
    assert errand is not None
    found = []

    def by_errand() -> Result:
        id_ = node.requests.errand(command, errand)
        node.client.stdin_eof(id_)
        return node.wait(id_)

    for run in (lambda: node.cold(command, b""), by_errand):
        shutil.rmtree(PLACE, ignore_errors=True)
        os.mkdir(PLACE)
        prepare()
        result = run()
        found.append((result.rc, result.stdout, result.stderr, state()))
    shutil.rmtree(PLACE)
    return found


@pytest.mark.parametrize("case", CASES)
def test_same(node: WarmNode, case: str) -> None:
    cold, errand = outcomes(node, *CASES[case])
    assert errand == cold


@needs_setfacl
def test_same_where_others_are_given_rights(node: WarmNode) -> None:
    cold, errand = outcomes(node, mkdtemp(f"{PLACE}/base/more"), rules)
    assert errand == cold


def test_no_process_is_needed(node: WarmNode) -> None:
    """The usual ones, where each saves a shell and up to six programs: without a PATH to programs they still work."""
    shutil.rmtree(PLACE, ignore_errors=True)
    for command in (mkdtemp(f"{PLACE}/base"), chmod(f"{PLACE}/base/{NAME}"), remove(f"{PLACE}/base/{NAME}/")):
        errand = payload.errand(command)
        assert errand is not None
        id_ = node.requests.errand(command.replace("/bin/sh -c '", "/bin/sh -c 'exit 99; "), errand)
        assert node.wait(id_).rc == 0
    assert os.listdir(f"{PLACE}/base") == []
    shutil.rmtree(PLACE)


@pytest.mark.parametrize(
    "command",
    [
        shell("expand_user", "~a b"),
        shell("expand_user", "~/x"),
        mkdtemp("$HOME/tmp"),
        mkdtemp("~root/tmp"),
        mkdtemp("/tmp/with space"),
        mkdtemp("relative"),
        mkdtemp("/tmp/*"),
        mkdtemp("/tmp").replace("77", "22"),
        shell("mkdtemp", basefile="other", tmpdir="/tmp"),
        chmod("relative"),
        chmod("/tmp/*"),
        chmod("-R", "/tmp"),
        shell("chmod", ["/tmp"], "u+s"),
        remove("/"),
        remove("/tmp"),
        remove(f"~/{NAME}"),
        remove(f"/tmp/{NAME}/.."),
        remove(f"/tmp/{NAME}x"),
        remove(f"/tmp/{NAME}") + " x",
        "/bin/bash" + remove(f"/tmp/{NAME}").removeprefix("/bin/sh"),
        remove(f"/tmp/{NAME}").replace("rm -f", "sudo rm -f"),
        core.command(),
        core.command("sudo"),
    ],
)
def test_others_are_left_to_the_shell(command: str) -> None:
    assert payload.errand(command) is None
