# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which completions were told already: an object for each in the store's own bucket, below a prefix where no node may write.

An object, and not a table: a conditional write is all that is needed, S3 has it, and nothing more has to be made, paid, permitted and
emptied; the bucket's lifecycle forgets. The key is ``.completed/ACCOUNT/REGION/COMMAND/NODE``. Its content is the message as it was told.

A claim is written before a message is sent, and its end after. Who finds a claim of somebody who is at work leaves it to them: if they fail,
Lambda calls them again. A claim that is over its time was of one who died: it is taken over.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

PREFIX = ".completed"
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


class Told(Exception):
    """The completion was told, or somebody is telling it now."""


class Memory:
    """The claims in a bucket."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    @contextmanager
    def telling(self, name: str, message: dict[str, Any], seconds: float) -> Iterator[None]:
        """Hold the claim to a completion while it is told. :raises Told: if it is another's.

        :param name: ``ACCOUNT/REGION/COMMAND/NODE``.
        :param seconds: until the claim may be taken over.
        """
        key = f"{PREFIX}/{name}"
        etag = self._claim(key, time.time() + seconds)
        try:
            yield
        except Exception:
            self._write(key, {"told": False, "until": 0}, IfMatch=etag)  # for whoever tries next
            raise
        self._write(key, {"told": True, "message": message}, IfMatch=etag)

    def told(self, name: str) -> bool:
        """Whether a completion was told. Cheaper to know before anything is asked of the account."""
        found = self._read(f"{PREFIX}/{name}")
        return found is not None and bool(found[0]["told"])

    def _claim(self, key: str, until: float) -> str:
        claim = {"told": False, "until": until}
        try:
            return self._write(key, claim, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] not in _TAKEN:
                raise
        found = self._read(key)
        if found is None or found[0]["told"] or found[0]["until"] > time.time():
            raise Told(key)
        try:
            return self._write(key, claim, IfMatch=found[1])
        except ClientError as error:
            if error.response["Error"]["Code"] in _TAKEN:
                raise Told(key) from error
            raise

    def _read(self, key: str) -> tuple[dict[str, Any], str] | None:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except self._s3.exceptions.NoSuchKey:
            return None
        content: dict[str, Any] = json.loads(answer["Body"].read())
        return content, answer["ETag"]

    def _write(self, key: str, content: dict[str, Any], **condition: str) -> str:
        text = json.dumps(content).encode()
        return str(self._s3.put_object(Bucket=self._bucket, Key=key, Body=text, ContentType="application/json", **condition)["ETag"])
