# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an output lies in S3, as the service or a person writes it. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_HOST = re.compile(r"(?:(?P<bucket>.+)\.)?s3(?:-fips)?(?:\.dualstack)?(?:[.-](?P<region>[a-z]{2}(?:-[a-z]+)+-\d+))?\.amazonaws\.com(?:\.cn)?")


@dataclass(frozen=True)
class S3Address:
    """A bucket and a key; the region if it is known."""

    bucket: str
    key: str
    region: str | None = None

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_address(text: str) -> S3Address | None:
    """``s3://BUCKET/KEY``, or a URL of S3 in either of its styles; `None` for anything else.

    The service writes ``https://s3.REGION.amazonaws.com/BUCKET/KEY``.
    """
    parts = urlsplit(text)
    if parts.scheme == "s3" and parts.netloc:
        return S3Address(parts.netloc, text.partition("://")[2].partition("/")[2])
    host = _HOST.fullmatch(parts.hostname or "") if parts.scheme in ("http", "https") else None
    if host is None:
        return None
    path = unquote(parts.path.lstrip("/"))
    bucket, _slash, key = (host["bucket"], "", path) if host["bucket"] else path.partition("/")
    return S3Address(bucket, key, host["region"]) if bucket and key else None
