# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which KMS key S3 needs for an object: whoever puts or gets one must be allowed to use it. moto keeps its name, and asks nobody."""

from __future__ import annotations

from collections.abc import Mapping

from moto.s3.models import s3_backends

from .moto_bridge import key_arn

_MODE, _KEY = "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id"


def key_of(action: str, path: str, headers: Mapping[str, str], region: str) -> str | None:
    """The ARN of a key that somebody made; None for S3's own keys, which everybody of the account may use.

    :param action: PutObject, GetObject or another one; :param path: bucket and key of the object.
    """
    bucket, _slash, key = path.partition("/")
    _partition, owner = s3_backends.bucket_accounts.get(bucket, ("", ""))
    if not owner or action not in ("PutObject", "GetObject"):
        return None
    held = s3_backends[owner]["aws"].buckets[bucket]
    if action == "GetObject":
        stored = held.keys.get(key)
        mode, kms_key = (stored.encryption, stored.kms_key_id) if stored is not None else (None, None)
    elif _MODE in headers:
        mode, kms_key = headers[_MODE], headers.get(_KEY)
    else:
        rule = ((held.encryption or {}).get("Rule") or {}).get("ApplyServerSideEncryptionByDefault") or {}
        mode, kms_key = rule.get("SSEAlgorithm"), rule.get("KMSMasterKeyID")
    if mode != "aws:kms" or not kms_key:
        return None
    return key_arn(kms_key.split(":")[4] if kms_key.startswith("arn:") else owner, region, kms_key)
