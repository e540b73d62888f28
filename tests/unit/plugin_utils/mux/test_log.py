# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret in the log."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.log import log_to, redact


@pytest.mark.parametrize(
    "text",
    [
        'secret_key="hidden"',
        "{'SecretAccessKey': 'hidden', 'x': 1}",
        "AWS_SESSION_TOKEN=hidden",
        "TokenValue: hidden",
        "proxy http://user:hidden@proxy:3128/",
        "Authorization: hidden",
    ],
)
def test_redaction(text: str) -> None:
    assert "hidden" not in redact(text)


def test_ordinary_text_stays() -> None:
    assert redact("i-0123: the session ended: https://ssm.eu-central-1.amazonaws.com/") == "i-0123: the session ended: https://ssm.eu-central-1.amazonaws.com/"


def test_the_file_is_the_owners_and_exceptions_are_redacted(tmp_path: Path) -> None:
    log = logging.Logger("test")
    path = tmp_path / "mux.log"
    log_to(log, str(path))
    log_to(log, str(path))
    assert len(log.handlers) == 1
    try:
        raise ValueError("secret_key=hidden")
    except ValueError:
        log.exception("failed")
    text = path.read_text()
    assert "failed" in text and "ValueError" in text and "hidden" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
