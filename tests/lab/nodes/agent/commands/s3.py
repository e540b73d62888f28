# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 in the little that an agent needs: find a bucket's region, put, list, get.

Path-style requests, signed with the node's role. The region comes from a signed HEAD of the bucket, whatever its status;
an answer that redirects (301, 307, 400) names it again, and the request is sent once more with it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from ..service import Service, ServiceError
from ..signing import Credentials, sign

_REDIRECTS = (301, 307, 400)
_TRIES = 4
_FIRST_PAUSE = 0.05


class S3:
    """S3 as one node sees it. All methods raise ServiceError, an OSError."""

    def __init__(self, service: Service, credentials: Callable[[], Credentials]) -> None:
        self._service, self._credentials = service, credentials
        self._base = (service.config.s3_url or service.config.agent_url).rstrip("/")
        self._regions: dict[str, str] = {}

    def put(self, bucket: str, key: str, path: Path) -> None:
        """Store a file as text/plain; the bucket's owner gets full control."""
        headers = {"Content-Type": "text/plain", "x-amz-acl": "bucket-owner-full-control", **self._encryption(bucket)}
        self._request("PUT", bucket, key, headers=headers, body=path.read_bytes())

    def get(self, bucket: str, key: str) -> bytes:
        return self._request("GET", bucket, key)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """The first thousand keys below a prefix."""
        answer = self._request("GET", bucket, query={"list-type": "2", "prefix": prefix})
        return [
            element.text or "" for element in ElementTree.fromstring(answer).iter() if element.tag.endswith("}Key")
        ]

    def _encryption(self, bucket: str) -> dict[str, str]:
        """Headers that ask for what the bucket does anyway; the agent looks and names it."""
        try:
            answer = ElementTree.fromstring(self._request("GET", bucket, query={"encryption": ""}))
        except (ServiceError, ElementTree.ParseError):
            return {}
        found = {element.tag.rpartition("}")[2]: element.text or "" for element in answer.iter()}
        algorithm = found.get("SSEAlgorithm", "")
        if algorithm not in ("AES256", "aws:kms"):
            return {}
        headers = {"x-amz-server-side-encryption": algorithm}
        if algorithm == "aws:kms" and found.get("KMSMasterKeyID"):
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = found["KMSMasterKeyID"]
        return headers

    def _region(self, bucket: str) -> str:
        if bucket not in self._regions:
            _status, headers, _body = self._send("HEAD", bucket, "", self._service.config.region, {}, {}, b"")
            self._regions[bucket] = headers.get("x-amz-bucket-region") or self._service.config.region
        return self._regions[bucket]

    def _request(
        self,
        method: str,
        bucket: str,
        key: str = "",
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> bytes:
        """One request, again where another region is named, and after errors of the server."""
        status, answer = 0, b""
        for attempt in range(_TRIES):
            if attempt and status not in _REDIRECTS:
                time.sleep(_FIRST_PAUSE * 2**attempt)
            status, told, answer = self._send(
                method, bucket, key, self._region(bucket), query or {}, headers or {}, body
            )
            if status in (200, 204):
                return answer
            region = told.get("x-amz-bucket-region", "")
            if status in _REDIRECTS and region and region != self._regions[bucket]:
                self._regions[bucket] = region
            elif status < 500:
                break
        raise ServiceError(status, answer.decode(errors="replace")[:500])

    def _send(
        self, method: str, bucket: str, key: str, region: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        url = f"{self._base}/{bucket}" + (f"/{quote(key, safe='/-_.~')}" if key else "")
        if query:
            url += "?" + urlencode(query, quote_via=quote)
        given = {**headers, "x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
        signed = sign(method, url, given, body, credentials=self._credentials(), service="s3", region=region)
        return self._service.exchange(method, url, signed, body)
