# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.bench.download FOLDER BUCKET COUNT CONNECTIONS``: what gathering is measured against, objects into files.

As few lines as do it: threads that share one client, and keys that are known.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config


def key(number: int) -> str:
    """Of an output, as `node_result` names them."""
    return f"c/i-{number:05d}/1/stdout"


def main(folder: Path, bucket: str, count: int, connections: int) -> None:
    """Get them all."""
    client = boto3.client("s3", config=Config(max_pool_connections=connections))

    def fetch(number: int) -> None:
        content = client.get_object(Bucket=bucket, Key=key(number))["Body"].read()
        (folder / f"{number:05d}").write_bytes(content)

    with ThreadPoolExecutor(connections) as executor:
        for _done in executor.map(fetch, range(count)):
            pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
