# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outputs moved to a second bucket, which nodes cannot reach: the copy belongs to the store's account, the original goes.

For a bucket in which objects belong to the account that has written them. Only what the service confirms as an output is moved.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

_GONE = frozenset({"NoSuchKey", "404"})


class Relay:
    """Moves objects into a bucket."""

    def __init__(self, s3: Any, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    def move(self, bucket: str, key: str) -> bool:
        """False if it was moved before: Lambda and S3 may tell of an object twice."""
        try:
            # In parts if it is large; a copy belongs to whoever makes it, and the bucket lets no other owner be.
            self._s3.copy({"Bucket": bucket, "Key": key}, self._bucket, key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _GONE:
                return False
            raise
        self._s3.delete_object(Bucket=bucket, Key=key)
        return True
