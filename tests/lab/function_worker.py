# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process of a Lambda function: one JSON line on stdin is an event, one on stdout its result. What the handler prints is log."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any


class Context:
    """The second argument of a handler."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._ends = time.monotonic() + float(values.pop("seconds"))
        self.__dict__.update(values)

    def get_remaining_time_in_millis(self) -> int:
        """Until the function is ended."""
        return max(0, int((self._ends - time.monotonic()) * 1000))


def main() -> None:
    """Serve events until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # print() is for the log
    sys.path.insert(0, os.getcwd())
    module, _dot, name = sys.argv[1].rpartition(".")
    handler = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if handler is None:
                handler = getattr(importlib.import_module(module.replace("/", ".")), name)
            answer = json.dumps({"result": handler(request["event"], Context(request["context"]))})
        except Exception as problem:  # the function's own: reported, not ours to handle
            traceback.print_exc()
            error = {"errorMessage": str(problem), "errorType": type(problem).__name__, "stackTrace": traceback.format_exc().splitlines()}
            answer = json.dumps({"error": error})
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(answer + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
