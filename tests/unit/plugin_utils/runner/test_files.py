# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real runner in a real PTY: put and get."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runner.events import Failed, GotFile, PutFile

from .local_node import LocalNode

NAMES = ["plain", "it's", 'a "b"', "汉语-['foo bar'].txt", "a\nb", " lead", "-rf", "~", "$HOME", "back\\slash", "\udcff\udcfe", "*?", "é"]


def code(end: object) -> str:
    assert isinstance(end, Failed), end
    assert end.message
    return end.code


@pytest.mark.parametrize("name", NAMES)
def test_names(node: LocalNode, tmp_path: Path, name: str) -> None:
    path = os.fsencode(tmp_path) + b"/" + name.encode("utf-8", "surrogateescape")
    for argument in (path, str(tmp_path) + "/" + name):
        assert isinstance(node.put(argument, b"x\r\n\0").end, PutFile)
        assert os.listdir(os.fsencode(tmp_path)) == [os.path.basename(path)]
        assert node.get(argument).stdout == b"x\r\n\0"


@pytest.mark.parametrize("size", [0, 1, 32767, 32768, 32769, 2_500_000])
def test_sizes(fast_node: LocalNode, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    put = fast_node.put(str(tmp_path / "f"), data).end
    assert isinstance(put, PutFile)
    assert (put.size, put.sha256) == (size, hashlib.sha256(data).digest())
    assert (tmp_path / "f").read_bytes() == data
    result = fast_node.get(str(tmp_path / "f"))
    assert result.stdout == data
    assert isinstance(result.end, GotFile)
    assert (result.end.size, result.end.sha256) == (size, hashlib.sha256(data).digest())


def test_modes(node: LocalNode, tmp_path: Path) -> None:
    """A new file by the umask, an old one keeps what it has, and what is asked for comes first."""
    path = tmp_path / "f"
    umask = os.umask(0)
    os.umask(umask)
    for mode, expected in ((None, 0o666 & ~umask), (0o600, 0o600), (None, 0o600), (0o4755, 0o4755)):
        node.put(str(path), b"x", mode=mode)
        assert stat.S_IMODE(path.stat().st_mode) == expected
    end = node.get(str(path)).end
    assert isinstance(end, GotFile)
    assert end.mode == 0o4755


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_the_owner_stays(node: LocalNode, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    os.chown(path, 1234, 2345)
    node.put(str(path), b"new")
    assert (path.read_bytes(), path.stat().st_uid, path.stat().st_gid) == (b"new", 1234, 2345)


def test_a_link_is_followed(node: LocalNode, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("sub/target")
    node.put(str(tmp_path / "link"), b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "sub/target").read_bytes() == b"x"


def test_a_relative_name_is_from_home(node: LocalNode) -> None:
    name = f".fleet-ssm-test-{os.getpid()}"
    path = Path(pwd.getpwuid(os.getuid()).pw_dir, name)  # whatever HOME says here
    try:
        assert isinstance(node.put(name, b"x").end, PutFile)
        assert path.read_bytes() == b"x"
        assert node.get(name).stdout == b"x"
    finally:
        path.unlink()


def test_what_cannot_be_put(node: LocalNode, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    os.mkfifo(tmp_path / "fifo")
    assert code(node.put(str(tmp_path / "no/such"), b"x").end) == "ENOENT"
    assert code(node.put(str(tmp_path / "dir"), b"x").end) == "EISDIR"
    assert code(node.put(str(tmp_path / "file/below"), b"x").end) in ("ENOENT", "ENOTDIR")
    assert code(node.put(str(tmp_path / "fifo"), b"x").end) == "EINVAL"
    assert code(node.put(str(tmp_path / ("n" * 300)), b"x").end) == "ENAMETOOLONG"
    assert code(node.put("/proc/x", b"x").end) in ("ENOENT", "EACCES", "EPERM")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dir", "fifo", "file"]


def test_a_put_that_is_not_whole_leaves_the_old_file(node: LocalNode, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    assert code(node.put(str(path), b"new", size=4).end) == "EBADMSG"
    assert code(node.put(str(path), b"new", sha256=bytes(32)).end) == "EBADMSG"
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    assert isinstance(node.put(str(path), b"new", sha256=hashlib.sha256(b"new").digest()).end, PutFile)


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_file_system(node: LocalNode, tmp_path: Path) -> None:
    if node.run(f"mount -t tmpfs -o size=1m none {tmp_path}").rc:
        pytest.skip("may not mount")
    try:
        assert code(node.put(str(tmp_path / "f"), os.urandom(3_000_000)).end) == "ENOSPC"
        assert list(tmp_path.iterdir()) == []
    finally:
        node.run(f"umount {tmp_path}")


def test_what_cannot_be_got(node: LocalNode, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert code(node.get(str(tmp_path / "no")).end) == "ENOENT"
    assert code(node.get(str(tmp_path)).end) == "EISDIR"
    assert code(node.get(str(tmp_path / "fifo")).end) == "EINVAL"
    assert code(node.get("/dev/zero").end) == "EINVAL"
    assert code(node.get("/proc/self/mem").end) == "EIO", "a file that cannot be read to its end is no short file"


def test_a_file_whose_size_is_not_known(node: LocalNode) -> None:
    assert node.get("/proc/self/status").stdout.startswith(b"Name:\tpython")


def test_compressible_files_cost_little(node: LocalNode, tmp_path: Path) -> None:
    """Over the PTY, where every byte counts."""
    (tmp_path / "f").write_bytes(b"a line of some text\n" * 50_000)
    before = node.received
    assert len(node.get(str(tmp_path / "f")).stdout) == 1_000_000
    assert node.received - before < 50_000
