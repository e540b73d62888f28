# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bucket that the option `bucket` names: what is too long or too secret for a command's parameters passes through it, for a short time."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from .. import errors
from ..aws.helper import CredentialsError
from ..aws.identity import Identity
from ..errors import RequestError
from ..protocol import ErrorKind
from ..request import ConnectionOptions

URL_LIVES = 900
"""Seconds for which a URL may be used once the node has begun; the time in which the command is delivered comes in addition."""

_IN_MEMORY = 1 << 20


@dataclass(frozen=True)
class Bucket:
    """A bucket by the options of a connection."""

    identity: Identity
    name: str
    prefix: str
    region: str
    delivery: int
    sse: str | None
    kms_key: str | None
    encryption: Mapping[str, str] = field(init=False)
    """What a PUT must say of it, as parameters of PutObject."""

    def __post_init__(self) -> None:
        given = {"ServerSideEncryption": self.sse} if self.sse else {}
        if self.sse == "aws:kms" and self.kms_key:
            given["SSEKMSKeyId"] = self.kms_key
        object.__setattr__(self, "encryption", given)

    @classmethod
    async def of(cls, identity: Identity, options: ConnectionOptions, regions: dict[str, str]) -> Bucket | None:
        """The bucket of the options, if they name one.

        :param regions: of buckets, as far as they are known; added to.
        :raises RequestError: it does not exist, or cannot be reached.
        """
        if not options.bucket:
            return None
        region = options.bucket_region or regions.get(options.bucket)
        if region is None:
            region = regions[options.bucket] = await _region_of(identity, options.bucket)
        return cls(
            identity, options.bucket, options.bucket_prefix.strip("/"), region, options.delivery_timeout,
            options.bucket_sse_mode, options.bucket_sse_kms_key_id,
        )  # fmt: skip

    @property
    def url_lives(self) -> int:
        """Seconds for which a URL is valid, from now on."""
        return URL_LIVES + self.delivery

    def new_key(self, node_or_all: str, what: str) -> str:
        """A name that cannot be guessed."""
        return "/".join(part for part in (self.prefix, node_or_all, f"{secrets.token_hex(16)}.{what}") if part)

    async def put(self, key: str, body: bytes | IO[bytes]) -> None:
        """Store an object. :raises RequestError: S3 refuses; the text says why."""
        await self._do(key, "s3:PutObject", lambda client: client.put_object(Bucket=self.name, Key=key, Body=_rewound(body), **self.encryption))

    async def url_to_get(self, key: str) -> str:
        """By which a node may fetch it, for a short time."""
        parameters = {"Bucket": self.name, "Key": key}
        url: str = await self._do(key, "s3:GetObject", lambda client: client.generate_presigned_url("get_object", parameters, self.url_lives))
        return url

    async def url_to_put(self, key: str) -> tuple[str, dict[str, str]]:
        """By which a node may store it, and the headers that it must send with it."""
        parameters = {"Bucket": self.name, "Key": key, **self.encryption}
        url: str = await self._do(key, "s3:PutObject", lambda client: client.generate_presigned_url("put_object", parameters, self.url_lives))
        names = {"ServerSideEncryption": "x-amz-server-side-encryption", "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id"}
        return url, {names[name]: value for name, value in self.encryption.items()}

    async def get(self, key: str) -> IO[bytes]:
        """An object's content, in a file without a name. :raises RequestError: S3 refuses; the text says why."""

        def read(client: Any) -> IO[bytes]:
            sink: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # it is the caller's
            for piece in client.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(1 << 18):
                sink.write(piece)
            sink.seek(0)
            return sink

        found: IO[bytes] = await self._do(key, "s3:GetObject", read)
        return found

    async def delete(self, key: str) -> None:
        """Remove an object. :raises RequestError: S3 refuses; the text says why."""
        await self._do(key, "s3:DeleteObject", lambda client: client.delete_object(Bucket=self.name, Key=key))

    async def _do(self, key: str, action: str, work: Any) -> Any:
        try:
            return await self.identity.use("s3", self.region, action.partition(":")[2], work)
        except CredentialsError as error:
            raise RequestError(ErrorKind.UNREACHABLE, str(error)) from error
        except Exception as error:
            text = self.identity.explain(error, action, f"s3://{self.name}/{key}")
            if errors.error_code(error) in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
                text += ": the bucket is in another region, set the option bucket_region"
            elif errors.error_code(error) == "NoSuchBucket":
                text += ": check the option bucket"
            elif errors.is_denied(error):
                text += ". The policy of a bucket, or of a KMS key, that is another account's must allow it as well"
            raise RequestError(ErrorKind.FAILED, text) from error


async def _region_of(identity: Identity, bucket: str) -> str:
    """By HeadBucket, whose answer names it even when it refuses."""

    def ask(client: Any) -> str:
        try:
            answer = client.head_bucket(Bucket=bucket)
        except Exception as error:
            answer = getattr(error, "response", None)
            if answer is None or errors.http_status(error) == 404:
                raise
        found = answer.get("BucketRegion") or answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return str(found or client.meta.region_name)

    try:
        return await identity.use("s3", None, "HeadBucket", ask)
    except CredentialsError as error:
        raise RequestError(ErrorKind.UNREACHABLE, str(error)) from error
    except Exception as error:
        if errors.http_status(error) == 404:
            raise RequestError(ErrorKind.OPTION, f"the bucket {bucket} (option bucket) does not exist") from error
        raise RequestError(ErrorKind.FAILED, identity.explain(error, "s3:ListBucket", f"s3://{bucket}")) from error


def _rewound(body: bytes | IO[bytes]) -> bytes | IO[bytes]:
    if not isinstance(body, bytes):
        body.seek(0)
    return body
