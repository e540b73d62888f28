# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs in full, where the listing has cut them: from S3 if they are there, else from the API (which cuts, too, but later)."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ..aws_errors import error_code, is_denied, is_expired, is_throttling, is_transient
from ..problems import CollectError
from ..scope import Place
from .caller import Caller, Stopped
from .record import API_STDERR, API_STDOUT, BRIEF, Record, is_cut, split, steps_of

#: The service writes ``https://s3.REGION.amazonaws.com/BUCKET/KEY``; S3's oldest name has no region.
_URL = re.compile(r"https://s3(?:[.-](?P<region>[a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?/(?P<bucket>[^/]+)/(?P<key>.+)")
_OLDEST_REGION = "us-east-1"
_MISSING = frozenset({"NoSuchKey", "404"})
#: Seconds for which objects that the agent has yet to upload are waited for, once for all nodes of a command, and between looks.
_LATE, _SHORTEST, _LONGEST = 45.0, 1.0, 8.0
#: The same once one was waited for in vain: then others will not come either.
_LATE_AGAIN = 5.0
#: Characters of a step's name for which GetCommandInvocation can be asked (its model).
_SHORTEST_NAME = 4
#: Seconds for which S3's faults are borne.
_PATIENCE = 30.0


def locate(url: str) -> tuple[str, str, str] | None:
    """Region, bucket and key of an output's URL; None if it is none."""
    found = _URL.fullmatch(url)
    return (found["region"] or _OLDEST_REGION, found["bucket"], unquote(found["key"])) if found else None


class Outputs:
    """Completes results of one place."""

    def __init__(self, caller: Caller, *, full: bool) -> None:
        self._caller = caller
        self._full = full
        self._late = _LATE
        self._until: dict[str, float] = {}  # by command: when late objects are waited for no longer
        self._may_ask = True  # for what GetCommandInvocation has

    def complete(self, record: Record, entry: Mapping[str, Any]) -> None:
        """Put the whole output into a record whose output is cut; `output_error` says why that failed."""
        if not self._full or not record.get("output_truncated"):
            return
        try:
            if record["stdout_uri"]:
                self._from_s3(record, entry)
            else:
                self._from_api(record, entry)
        except CollectError as error:
            record["output_error"] = str(error)
        except Stopped:
            record["output_error"] = "the time for waiting was over before the whole output was there"

    def hurry(self) -> None:
        """From now on, wait for no object."""
        self._late, self._until = 0.0, {}

    def _from_s3(self, record: Record, entry: Mapping[str, Any]) -> None:
        """Streams of steps whose output is cut; the listing has the others, and the beginning of one that cannot be had."""
        until = self._until.setdefault(record["command_id"], time.monotonic() + self._late)
        stdout, stderr, missing = "", "", None
        for step, seen in zip(entry["CommandPlugins"], record["steps"], strict=True):
            text = str(step.get("Output") or "")
            one, other = split(text)
            if is_cut(text, BRIEF):
                try:
                    one = self._object(step.get("StandardOutputUrl") or "", expected=bool(one), until=until)
                    other = "" if seen["stderr_empty"] else self._stderr(record, step, known=seen["stderr_empty"] is False, until=until)
                except CollectError as error:
                    missing = missing or error
            stdout, stderr = stdout + one, stderr + other
        record["stdout"], record["stderr"], record["output_truncated"] = stdout, stderr, missing is not None
        if missing is not None:
            raise missing

    def _stderr(self, record: Record, step: Mapping[str, Any], *, known: bool, until: float) -> str:
        """Where stdout alone fills what the listing holds, it is not known whether there is a stderr: if none is there, the API says whether one will be."""
        url = step.get("StandardErrorUrl") or ""
        found = self._object(url, expected=known, until=until)
        if not found and not known and self._has_stderr(record, step):
            found = self._object(url, expected=True, until=until)
        return found

    def _has_stderr(self, record: Record, step: Mapping[str, Any]) -> bool:
        """As far as it may and can be asked; else there is none."""
        name = str(step["Name"])
        try:
            return self._may_ask and len(name) >= _SHORTEST_NAME and bool(self._asked(record, name).get("StandardErrorContent"))
        except CollectError as error:
            if error.cause is None or not is_denied(error.cause):
                raise
            self._may_ask = False
            return False

    def _object(self, url: str, *, expected: bool, until: float) -> str:
        """An object's text; an empty stream has none, of which S3 tells those who may not list the bucket that it is denied.

        :param expected: whether there is one, which is waited for.
        :raises CollectError: if it cannot be read.
        """
        place: Place = self._caller.place
        where = locate(url)
        if where is None:
            raise CollectError(place.account, place.region, "s3:GetObject", f"the address of the output is none of S3: {url!r}.", "")
        region, bucket, key = where
        began, pause, renewed = time.monotonic(), _SHORTEST, False
        while True:
            client = place.clients.client("s3", region)
            try:
                content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
                return content.decode("utf-8", "replace")
            except Exception as error:
                now = time.monotonic()
                if not expected and (error_code(error) in _MISSING or is_denied(error)):
                    return ""
                if error_code(error) in _MISSING:
                    if again := now < until:
                        pause = min(pause, until - now)
                    else:
                        self._late = min(self._late, _LATE_AGAIN)
                elif again := is_expired(error) and not renewed:
                    renewed, pause = True, 0.0
                    place.clients.renew(client)
                else:
                    again = (is_throttling(error) or is_transient(error)) and now - began < _PATIENCE
                if not again:
                    explained = place.clients.explain(region, "s3:GetObject", error)
                    text = f"s3://{bucket}/{key}: {explained.text}"
                    remedy = f"{explained.remedy} It may not be there, which takes s3:ListBucket to know." if is_denied(error) else explained.remedy
                    raise CollectError(place.account, region, "s3:GetObject", text, remedy, error) from error
            self._caller.wait(pause)
            pause = min(max(pause, _SHORTEST) * 2, _LONGEST)

    def _from_api(self, record: Record, entry: Mapping[str, Any]) -> None:
        stdout, stderr = "", ""
        cut = False
        for step in steps_of(entry):
            answer = self._asked(record, step)
            one, other = answer.get("StandardOutputContent") or "", answer.get("StandardErrorContent") or ""
            cut = cut or is_cut(one, API_STDOUT) or is_cut(other, API_STDERR)
            stdout, stderr = stdout + one, stderr + other
        record["stdout"], record["stderr"], record["output_truncated"] = stdout, stderr, cut

    def _asked(self, record: Record, step: str) -> dict[str, Any]:
        """What GetCommandInvocation has of a step."""
        return self._caller.read("GetCommandInvocation", CommandId=record["command_id"], InstanceId=record["instance_id"], PluginName=step)
