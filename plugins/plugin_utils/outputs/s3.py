# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3 for outputs: objects to files, and files to objects. Imports botocore only once something is to be had."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...module_utils.accounts import Account, parse_accounts
from .disk import whole_file
from .s3_address import S3Address

CHUNK = 256 * 1024
ATTEMPTS = 4
"""Of a call, by botocore, and of an object whose transfer breaks off, by us: from where it broke."""

SOURCE = "the options of the callback plugin outputs"
_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".jsonl": "application/x-ndjson"}


class S3:
    """One identity; clients by region, made at their first use. For use by many threads.

    :param options: profile, access_key, secret_key, session_token, role_arn, external_id, region, endpoint_url, connections.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._clients: Any = None
        self._regions: dict[str, str] = {}
        self.readable: set[str] = set()  #: buckets of which an object could be read
        self.calls = 0

    def fetch(self, address: S3Address, path: Path) -> int:
        """Copy an object into a file, which is there once it is whole; its bytes. Raises botocore's errors."""
        client = self._client(address)
        where = {"Bucket": address.bucket, "Key": address.key}
        answer = self._call(client.get_object, **where)
        self.readable.add(address.bucket)
        with whole_file(path) as file:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    for chunk in answer["Body"].iter_chunks(CHUNK):
                        file.write(chunk)
                    break
                except Exception as error:
                    if attempt == ATTEMPTS or isinstance(error, OSError) or not _is_of_the_way(error):
                        raise
                    answer = self._call(client.get_object, **where, Range=f"bytes={file.tell()}-", IfMatch=answer["ETag"])
            return file.tell()

    def store(self, path: Path, address: S3Address) -> None:
        """Copy a file into an object. Raises botocore's errors."""
        kind = _TYPES.get(path.suffix, "text/plain; charset=utf-8")
        with open(path, "rb") as file:
            self._call(self._client(address).put_object, Bucket=address.bucket, Key=address.key, Body=file, ContentType=kind)

    def _call(self, method: Any, **parameters: Any) -> Any:
        with self._lock:
            self.calls += 1
        return method(**parameters)

    def _client(self, address: S3Address) -> Any:
        with self._lock:
            if self._clients is None:
                self._clients = _connect(self._options)
            region = address.region or self._clients.regions()[0]
        return self._clients.client("s3", region)


def _connect(options: Mapping[str, Any]) -> Any:
    """The account's clients. :raises Exception: credentials or options that cannot be used, in words."""
    from ...module_utils.clients import AccountClients, ClientPool
    from ...module_utils.network import Network

    names = ("profile", "access_key", "secret_key", "session_token", "role_arn", "external_id")
    account: Account = parse_accounts(None, {name: options.get(name) for name in names}, SOURCE)[0]
    # The region is in an output's address; this one is for addresses without, and any one does, since S3 says where a bucket is.
    region = options.get("region") or os.environ.get("AWS_REGION")  # of which botocore knows nothing
    known = region or options.get("profile") or os.environ.get("AWS_DEFAULT_REGION")
    pool = ClientPool(
        region=region if known else "us-east-1",
        endpoint_url=options.get("endpoint_url"),
        network=Network.choose(environ=os.environ),
        connections=int(options["connections"]),
        source=SOURCE,
        name="outputs",
        config={"retries": {"mode": "standard", "total_max_attempts": ATTEMPTS}},
    )
    return AccountClients(pool, account)


def _is_of_the_way(error: Exception) -> bool:
    """Whether a transfer broke off, so that the rest may still be had."""
    from botocore import exceptions

    kinds = (exceptions.HTTPClientError, exceptions.IncompleteReadError, exceptions.ResponseStreamingError)
    return isinstance(error, kinds)
