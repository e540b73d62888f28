# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of folders, whatever people call their plays, tasks and hosts."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.layout import Layout
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.names import LONGEST, Names, TemplateError, fill, safe_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Install the web server", "Install_the_web_server"),
        ("a/b\\c", "a_b_c"),
        ("""say "hello" to 'them'; rm -rf $HOME `id`""", "say_hello_to_them_rm_-rf_HOME_id"),
        ("first\nsecond\r\n\tthird\0", "first_second_third"),
        ("Größe prüfen – 日本語", "Größe_prüfen_日本語"),
        ("e\u0301", "é"),
        ("..", "_"),
        (".hidden", "hidden"),
        ("~root", "root"),
        ("-rf", "rf"),
        ("", "_"),
        ("🚀", "_"),
        ("i-0123456789abcdef0", "i-0123456789abcdef0"),
        ("web-1.example.com", "web-1.example.com"),
    ],
)
def test_names_are_readable_and_safe(text, name):
    assert safe_name(text) == name


@given(st.text(max_size=300))
def test_any_text_gives_a_name_that_a_file_can_have(text):
    name = safe_name(text)
    assert name not in ("", ".", "..") and not name.startswith((".", "-", "~")) and not set(name) & set("/\\\0\n\r\"'`$ ")
    assert len(os.fsencode(name)) <= LONGEST


def test_long_names_are_cut_between_characters():
    assert safe_name("日" * 100) == "日" * (LONGEST // 3)


def test_a_name_is_given_once_also_where_capitals_do_not_count():
    names = Names()
    assert [names.take(text) for text in ("Web", "web", "web/", "WEB~2", "db")] == ["Web", "web~2", "web~3", "WEB~2~2", "db"]


def test_templates_take_known_placeholders_and_nothing_that_breaks_out_of_a_folder():
    values = {"job_id": "", "playbook": "../../etc/site", "date": "2026-01-02"}
    assert fill("{date}/{playbook}-{job_id}", values, "run") == "2026-01-02/_.._etc_site-"
    with pytest.raises(TemplateError, match=r"'upload' has the placeholder \{host\}\. There are: \{date\}, \{job_id\}, \{playbook\}\."):
        fill("{host}", values, "upload")


def test_tasks_of_one_name_have_folders_of_their_own_and_batches_of_a_play_share_them():
    layout = Layout()
    layout.begin_play("p1", "All / nodes")
    first, second = layout.task("t1", "Do it", "command"), layout.task("t2", "Do it", "command")
    layout.begin_play("p1", "All / nodes")
    assert layout.task("t1", "Do it", "command") is first
    layout.begin_play("p2", "")
    third = layout.task("t3", "Do it", "command")
    assert [task.folder for task in (first, second, third)] == ["01-All_nodes/001-Do_it", "01-All_nodes/002-Do_it", "02-_/003-Do_it"]
