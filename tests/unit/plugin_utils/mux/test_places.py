# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the mux is found."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux import places


def test_a_socket_path_always_fits(tmp_path: Path) -> None:
    for directory in ("/tmp/x", str(tmp_path / ("long" * 40))):
        path = places.socket_path(directory)
        assert len(path) + len(".lock") < 104
        assert path == places.socket_path(directory)
    assert places.socket_path("/tmp/" + "a" * 200) != places.socket_path("/tmp/" + "b" * 200)


def test_the_folder_is_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    places.make_directory(str(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    places.make_directory(str(folder))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(places.PlaceError):
        places.make_directory(str(file))
    if os.getuid() == 0:
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        os.chown(foreign, 12345, 12345)
        with pytest.raises(places.PlaceError, match="12345"):
            places.make_directory(str(foreign))


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
