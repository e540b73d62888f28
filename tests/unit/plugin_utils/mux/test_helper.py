# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that asks AWS for the mux, one of which may be waiting."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws import helper

QUESTION = {"action": "credentials", "profile": None}
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDOFTHEWORKER", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_CONFIG_FILE": os.devnull}


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    before = _helpers()
    yield
    helper.dismiss()
    assert _helpers() == before


def _helpers() -> set[int]:
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # other tests' children: one that has ended has no command line
            if "helper_program.py" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def test_the_one_that_waits_is_asked_first() -> None:
    before = _helpers()
    helper.prepare()
    (waiting,) = _helpers() - before
    assert helper.ask(QUESTION, KEYS, "")["AccessKeyId"] == "AKIDOFTHEWORKER"
    assert waiting not in _helpers()
    assert helper.ask(QUESTION, {**KEYS, "AWS_ACCESS_KEY_ID": "AKIDOFTHENEXT"}, "")["AccessKeyId"] == "AKIDOFTHENEXT"


def test_it_sees_the_environment_of_the_question_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also what it runs: a profile's credential_process."""
    monkeypatch.setenv("OF_THE_MUX", "yes")
    script = tmp_path / "asks"
    answer = '{"Version": 1, "AccessKeyId": "AKID%s%s", "SecretAccessKey": "secret"}'
    script.write_text(f"#!/bin/sh\nprintf '{answer}' \"$OF_THE_WORKER\" \"$OF_THE_MUX\"\n", encoding="utf-8")
    script.chmod(0o755)
    (tmp_path / "config").write_text(f"[profile asks]\ncredential_process = {script}\n", encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "OF_THE_WORKER": "WORKER", "AWS_CONFIG_FILE": str(tmp_path / "config")}
    helper.prepare()
    for _prepared in (True, False):
        assert helper.ask({**QUESTION, "profile": "asks"}, environment, "")["AccessKeyId"] == "AKIDWORKER"


def test_one_that_has_waited_too_long_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    before = _helpers()
    helper.prepare()
    (old,) = _helpers() - before
    monkeypatch.setattr(helper, "_FRESH", 0.0)
    assert helper.ask(QUESTION, KEYS, "")["AccessKeyId"] == "AKIDOFTHEWORKER"
    assert old not in _helpers()


def test_one_that_has_ended_is_not_asked() -> None:
    before = _helpers()
    helper.prepare()
    (ended,) = _helpers() - before
    os.kill(ended, signal.SIGKILL)
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    assert helper.ask(QUESTION, KEYS, "")["AccessKeyId"] == "AKIDOFTHEWORKER"
