# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""aws:downloadContent from S3: an object, or all below a prefix, into the command's downloads or an absolute path."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..identity import stored_credentials
from .order import Step
from .runner import Surroundings
from .s3 import S3
from .script import downloads
from .streams import StepOutput

_TYPES = ("Git", "GitHub", "HTTP", "S3", "SSMDocument")
_HOST = re.compile(
    r"((?P<bucket>.+)\.)?s3[.-](dualstack[.-])?((?P<region>[-a-z0-9]+)\.)?amazonaws\.com(\.cn)?",
)


class DownloadError(ValueError):
    """The text is the step's error."""


def download_content(around: Surroundings, step: Step, properties: Any, output: StepOutput) -> None:
    """The plugin. Sources other than S3 need the network, which nodes of the lab do not have."""
    try:
        source_type, info, destination = _inputs(properties)
        if source_type != "S3":
            raise DownloadError(f"the lab's agent downloads from S3 only, not from {source_type}")
        bucket, key = _place(info)
        target = destination if os.path.isabs(destination) else f"{downloads(around, step)}/{destination}"
        s3 = S3(around.service, lambda: stored_credentials(around.service))
        _download(s3, bucket, key, target)
    except (DownloadError, OSError) as error:
        output.fail(str(error))
        return
    output.info(f"Content downloaded to {target}")
    output.succeed()


def _inputs(properties: Any) -> tuple[str, Any, str]:
    given = properties if isinstance(properties, Mapping) else {}
    source_type, info = given.get("sourceType") or "", given.get("sourceInfo") or ""
    if not source_type:
        raise DownloadError("invalid input: SourceType must be specified")
    if source_type not in _TYPES:
        raise DownloadError("invalid input: Unsupported source type")
    if not info:
        raise DownloadError("invalid input: SourceInfo must be specified")
    return source_type, info, given.get("destinationPath") or ""


def _place(info: Any) -> tuple[str, str]:
    """Bucket and key of `{"path": URL}`, given as JSON or as an object."""
    try:
        path = (info if isinstance(info, Mapping) else json.loads(info)).get("path", "").strip()
    except (ValueError, AttributeError) as error:
        raise DownloadError(
            "s3 url parsing failed. Source Info could not be unmarshalled for source type S3. "
            f"Please check JSON format of SourceInfo - {error}"
        ) from error
    if not path:
        raise DownloadError("S3 source path in SourceInfo must be specified")
    parts = urlsplit(path)
    host = _HOST.fullmatch(parts.netloc)
    if host is None:
        raise DownloadError("invalid S3 path parameter")
    whole = unquote(parts.path.replace("+", " ")).lstrip("/")
    if host["bucket"]:
        return host["bucket"], whole
    bucket, _slash, key = whole.partition("/")
    return bucket, key


def _download(s3: S3, bucket: str, key: str, target: str) -> None:
    below = key if key.endswith("/") or not key else f"{key}/"
    keys = [name for name in s3.keys(bucket, below) if not name.endswith("/")]
    if keys:
        files = {name: Path(target, name.removeprefix(below)) for name in keys}
    else:
        as_folder = target.endswith("/") or Path(target).is_dir()
        files = {key: Path(target, Path(key).name) if as_folder else Path(target)}
    for name, path in files.items():
        data = s3.get(bucket, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o700)
