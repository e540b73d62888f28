# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a mux that was killed is found by the next, and no other one is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.journal import Journal


def killed(path: Path, *commands: tuple[str, str], ended: tuple[str, ...] = ()) -> None:
    """A mux that has sent these commands and did not come to its end: the lock is gone, the file is not."""
    journal = Journal(str(path))
    for command_id, place in commands:
        journal.sent(command_id, place)
    for command_id in ended:
        journal.ended(command_id)
    journal.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "[socket]"


def files(path: Path) -> list[Path]:
    return sorted(found for found in path.parent.iterdir())


def test_what_a_killed_mux_had_under_way_is_given_out_once_and_to_its_own_place(path: Path) -> None:
    killed(path, ("c-1", "here by me"), ("c-2", "here by me"), ("c-3", "there by me"), ended=("c-2",))
    journal = Journal(str(path))
    assert journal.left_over("here by me") == ["c-1"]
    assert journal.left_over("here by me") == []
    journal.ended("c-1")
    journal.close()
    assert Journal(str(path)).left_over("there by me") == ["c-3"], "nobody came for it: it is handed on"


def test_a_mux_that_lives_keeps_its_own(path: Path) -> None:
    living = Journal(str(path))
    living.sent("c-1", "here")
    assert Journal(str(path)).left_over("here") == []
    living.close()
    assert Journal(str(path)).left_over("here") == ["c-1"]


def test_nothing_is_left_of_one_that_has_nothing_under_way(path: Path) -> None:
    killed(path, ("c-1", "here"), ended=("c-1",))
    assert files(path) == []
    Journal(str(path)).close()
    assert files(path) == []


def test_a_line_that_was_cut_and_a_command_of_long_ago_are_nothing(path: Path) -> None:
    left = path.with_name("[socket].commands-0123")
    left.write_text(f"+ {time.time() - 1_000_000:.0f} c-1 here\n+ {time.time():.0f} c-2 here\nnonsense\n+ 17")
    assert Journal(str(path)).left_over("here") == ["c-2"]
    assert left not in files(path)


def test_a_folder_that_is_full_or_gone_stops_no_command(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "gone" / "socket"))
    journal.sent("c-1", "here")
    journal.ended("c-1")
    journal.close()
