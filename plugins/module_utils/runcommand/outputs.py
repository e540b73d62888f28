# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs in full, where the listing has cut them: from S3 if they are there, else from the API (which cuts, too, but later)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ..aws_errors import error_code
from ..problems import CollectError
from ..scope import Place
from .record import API_STDERR, API_STDOUT, Record, steps_of

_URL = re.compile(r"https://s3[.-](?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(?P<bucket>[^/]+)/(?P<key>.+)")
_MISSING = frozenset({"NoSuchKey", "404"})
#: Seconds between looks for an object that the agent has yet to upload.
_LATE = (1.0, 2.0, 4.0, 8.0, 15.0)


def locate(url: str) -> tuple[str, str, str] | None:
    """Region, bucket and key of an output's URL; None if it is none."""
    found = _URL.fullmatch(url)
    return (found["region"], found["bucket"], unquote(found["key"])) if found else None


class Outputs:
    """Completes results of one place."""

    def __init__(self, caller: Any, *, full: bool) -> None:
        self._caller = caller
        self._full = full

    def complete(self, record: Record, entry: Mapping[str, Any]) -> None:
        """Put the whole output into a record whose output is cut; `output_error` says why that failed."""
        if not self._full or not record.get("output_truncated"):
            return
        place: Place = self._caller.place
        try:
            if record["stdout_uri"]:
                record["stdout"] = self.from_s3(place, record["stdout_uri"], expected=bool(record["stdout"]))
                record["stderr"] = self.from_s3(place, record["stderr_uri"], expected=bool(record["stderr"]))
                record["output_truncated"] = False
            else:
                self._from_api(record, entry)
        except CollectError as error:
            record["output_error"] = str(error)

    def from_s3(self, place: Place, url: str | None, *, expected: bool) -> str:
        """An object's text; an empty stream has none. :raises CollectError: if it cannot be read."""
        where = locate(url or "")
        if where is None:
            return ""
        region, bucket, key = where
        for pause in (*_LATE, None):
            try:
                body = place.clients.client("s3", region).get_object(Bucket=bucket, Key=key)["Body"]
                text: str = body.read().decode("utf-8", "replace")
                return text
            except Exception as error:
                if error_code(error) in _MISSING and not expected:
                    return ""
                if error_code(error) not in _MISSING or pause is None:
                    explained = place.clients.explain(region, "s3:GetObject", error)
                    text = f"s3://{bucket}/{key}: {explained.text}"
                    raise CollectError(place.account, region, "s3:GetObject", text, explained.remedy, error) from error
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _from_api(self, record: Record, entry: Mapping[str, Any]) -> None:
        stdout, stderr = "", ""
        cut = False
        for step in steps_of(entry):
            answer = self._caller.read("GetCommandInvocation", CommandId=record["command_id"], InstanceId=record["instance_id"], PluginName=step)
            one, other = answer.get("StandardOutputContent") or "", answer.get("StandardErrorContent") or ""
            cut = cut or len(one) >= API_STDOUT or len(other) >= API_STDERR
            stdout, stderr = stdout + one, stderr + other
        record["stdout"], record["stderr"], record["output_truncated"] = stdout, stderr, cut
