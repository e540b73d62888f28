# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS signature version 4, in the little that an agent needs: botocore would be most of a session worker's memory."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit


@dataclass(frozen=True)
class Credentials:
    """Temporary keys; `expires` in seconds since the epoch, 0 for never."""

    access_key: str
    secret_key: str
    token: str = ""
    expires: float = 0.0


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    credentials: Credentials,
    service: str,
    region: str,
    at: datetime | None = None,
) -> dict[str, str]:
    """`headers` and those that make the request signed. Every given header is part of the signature."""
    parts = urlsplit(url)
    moment = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    signed = {**headers, "Host": parts.netloc, "X-Amz-Date": moment}
    if credentials.token:
        signed["X-Amz-Security-Token"] = credentials.token
    canonical_headers = sorted((name.lower(), " ".join(value.split())) for name, value in signed.items())
    names = ";".join(name for name, _unused in canonical_headers)
    query = sorted(
        (quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(parts.query, keep_blank_values=True)
    )
    canonical = "\n".join(
        (
            method,
            # Of the path as it is sent, quoted once more, but for S3.
            (parts.path if service == "s3" else quote(parts.path, safe="/-_.~")) or "/",
            "&".join(f"{k}={v}" for k, v in query),
            *(f"{name}:{value}" for name, value in canonical_headers),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + credentials.secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    signed["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed
