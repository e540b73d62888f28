# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a refusal of S3 means, and what to do about it. No I/O; botocore's errors are read by `aws_errors`, without botocore."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ...module_utils.aws_errors import error_code, error_message, http_status, is_denied, is_expired, is_throttling, is_transient
from .s3_address import S3Address

_NO_KEY = frozenset({"NoSuchKey", "404", "NoSuchVersion"})
_ELSEWHERE = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301", "307"})


class Kind(StrEnum):
    """Sorts of refusals; the values stand in the index and the report."""

    ABSENT = "absent"  #: it is not there, or not yet
    NO_BUCKET = "no_bucket"
    DENIED = "denied"
    ELSEWHERE = "elsewhere"  #: the bucket is in another region
    CREDENTIALS = "credentials"
    BUSY = "busy"  #: throttled, or a fault of the moment
    OTHER = "other"


@dataclass(frozen=True)
class Fault:
    """A refusal."""

    kind: Kind
    text: str

    def to_fields(self) -> dict[str, str]:
        """For the index."""
        return {"kind": self.kind.value, "text": self.text}


def told_region(error: BaseException) -> str | None:
    """The region in which S3 says that a bucket is."""
    response = getattr(error, "response", None) or {}
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or response.get("Error", {}).get("Region")
    return str(region) if region else None


def judge(error: BaseException, address: S3Address, *, readable: bool, action: str = "s3:GetObject") -> Fault:
    """Say what an error of a call for an object means.

    :param readable: whether another object of the bucket could be read. S3 answers 403 for an object that is not there if the caller
        may not list the bucket, so a 403 after a success is most likely an absence.
    """
    code, status, message = error_code(error), http_status(error), error_message(error).rstrip(".")
    told = told_region(error)
    if code == "NoSuchBucket":
        return Fault(Kind.NO_BUCKET, f"404: the bucket {address.bucket} does not exist: it was deleted, or the name in 's3_bucket' is wrong.")
    if code in _NO_KEY or status == 404:
        return Fault(Kind.ABSENT, f"404: {address} is not there: the node may lack s3:PutObject, or the way to S3.")
    if is_expired(error):
        return Fault(Kind.CREDENTIALS, f"{action} on {address}: the credentials have expired. Renew them, then gather again.")
    if is_throttling(error):
        return Fault(Kind.BUSY, f"{action} on {address} was throttled ({code}). Lower 'connections'.")
    if code in _ELSEWHERE or status in (301, 307):
        where = f"in {told}, and not" if told else "not"
        asked = address.region or "the region that was asked"
        return Fault(Kind.ELSEWHERE, f"{status or 301}: the bucket {address.bucket} is {where} in {asked}: set 's3_region' of the task.")
    if is_denied(error) or status == 403:
        if readable:
            return Fault(Kind.ABSENT, f"403: {address} is not there, or may not be read: S3 tells them apart only for who has s3:ListBucket on the bucket.")
        return Fault(
            Kind.DENIED, f"403: {action} on {address} is not allowed. Allow it (with KMS also kms:Decrypt) in the caller's policy and in that of the bucket."
        )
    if is_transient(error):
        return Fault(Kind.BUSY, f"{action} on {address} failed for the moment: {message}.")
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "CollectError"):
        return Fault(Kind.CREDENTIALS, f"{action} on {address}: {message}.")
    return Fault(Kind.OTHER, f"{action} on {address} failed with {code or name}: {message}.")
