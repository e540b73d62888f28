# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the mux is found."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux import places
from tests.integration.controller import MUX


def test_a_virtual_environment_by_another_path_has_the_same_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "current").symlink_to(sys.prefix)
    expected = places.socket_path(str(tmp_path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "current"))
    assert places.socket_path(str(tmp_path)) == expected


def test_a_socket_path_always_fits(tmp_path: Path) -> None:
    for directory in ("/tmp/x", str(tmp_path / ("long" * 40))):
        path = places.socket_path(directory)
        assert len(path) + len(".lock") < 104
        assert path == places.socket_path(directory)
    assert places.socket_path("/tmp/" + "a" * 200) != places.socket_path("/tmp/" + "b" * 200)


def mode(path: Path | str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_folders_are_made_for_this_user_alone(tmp_path: Path) -> None:
    path = places.socket_path(str(tmp_path / "a" / "b"))
    for _turn in range(2):
        places.make_directories(path)
        assert (mode(tmp_path / "a" / "b"), mode(os.path.dirname(path))) == (0o700, 0o700)


def test_a_folder_that_others_use_is_left_as_it_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    path = places.socket_path(str(shared))
    places.make_directories(path)
    assert (mode(shared), mode(os.path.dirname(path))) == (0o1777, 0o700)


def own_folder(folder: Path) -> tuple[str, Path]:
    """A socket's path below a folder, and the folder that it is in."""
    path = places.socket_path(str(folder))
    return path, Path(path).parent


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(places.PlaceError, match="control_path_dir"):
        places.make_directories(places.socket_path(str(tmp_path / "file")))
    path, folder = own_folder(tmp_path)
    folder.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    with pytest.raises(places.PlaceError, match=r"is no folder.*control_path_dir"):
        places.make_directories(path)


def test_a_folder_that_is_open_to_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path, folder = own_folder(tmp_path)
    folder.mkdir()
    folder.chmod(0o750)
    with pytest.raises(places.PlaceError, match=f"chmod 700 {folder}"):
        places.make_directories(path)
    assert mode(folder) == 0o750


AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from plugin_utils.mux import places
os.setgroups([]); os.setgid(65534); os.setuid(65534)
path = places.socket_path(sys.argv[2])
try:
    places.make_directories(path)
except places.PlaceError as error:
    sys.exit(str(error))
print(path)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be someone else")
def test_another_user_of_the_same_folder_has_one_of_his_own() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as shared:  # pytest's own folders are closed to others
        os.chmod(shared, 0o1777)

        def nobody() -> subprocess.CompletedProcess[str]:
            return subprocess.run([sys.executable, "-I", "-c", AS_NOBODY, str(MUX.parents[1]), shared], capture_output=True, text=True, check=False)

        first = nobody()
        assert first.returncode == 0, first.stderr
        folder = Path(first.stdout.strip()).parent
        places.make_directories(places.socket_path(shared))
        assert Path(places.socket_path(shared)).parent != folder
        assert (folder.stat().st_uid, mode(folder), mode(shared)) == (65534, 0o700, 0o1777)
        assert nobody().returncode == 0
        os.chown(folder, 12345, 12345)
        assert "belongs to uid 12345, not to you (65534). Set the option control_path_dir" in nobody().stderr


def test_other_code_has_another_digest(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    source = tmp_path / "package" / "module.py"
    source.write_text("one")
    first = places.code_digest(tmp_path)
    assert places.code_digest(tmp_path) == first
    cache = tmp_path / "package" / "__pycache__"
    cache.mkdir()
    (cache / "module.pyc").write_text("x")
    assert places.code_digest(tmp_path) == first, "compiled files come and go"
    source.write_text("three")
    assert places.code_digest(tmp_path) != first
