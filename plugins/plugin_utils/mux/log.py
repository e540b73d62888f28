# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mux's log: off unless the option `mux_log` names a file; without secrets, whatever a caller passes."""

from __future__ import annotations

import logging
import os
import re

NAME = "fleet.ssm.mux"

_REDACTIONS = (
    re.compile(r"(?i)(secret_?(?:access_?)?key|session_?token|token_?value|authorization|password|external_?id)([\"']?\s*[:=]\s*[\"']?)[^\s\"',}]+"),
    re.compile(r"(://[^/\s:@]*:)[^@\s]+(?=@)()"),
)


def redact(text: str) -> str:
    """Text with everything that looks like a secret taken out: the last net, not the rule."""
    for pattern in _REDACTIONS:
        text = pattern.sub(r"\1\2…", text)
    return text


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def make_log() -> logging.Logger:
    """The logger, which goes nowhere at first."""
    log = logging.getLogger(NAME)
    log.propagate = False
    log.addHandler(logging.NullHandler())
    log.setLevel(logging.CRITICAL)
    return log


def log_to(log: logging.Logger, path: str) -> None:
    """Write to a file, readable by its owner only; repeated calls for the same file do nothing."""
    path = os.path.abspath(os.path.expanduser(path))
    if any(isinstance(handler, logging.FileHandler) and handler.baseFilename == path for handler in log.handlers):
        return
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Redacting("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
