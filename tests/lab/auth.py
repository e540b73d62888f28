# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who calls: access keys, temporary credentials, and SigV4 signatures (computed by botocore's own signer)."""

from __future__ import annotations

import datetime
import hmac
import secrets
import string
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from .errors import AwsError, WireProtocol, bad_signature, expired_credentials, unknown_credentials, unsigned

#: AWS accepts clocks that differ by this many seconds.
_CLOCK_SKEW = 300.0
_ALPHABET = string.ascii_uppercase + "234567"


@dataclass(frozen=True)
class Principal:
    """A caller that has proved who it is."""

    account: str
    arn: str
    name: str  #: the user's name, or the role session's
    role: str | None = None
    node_id: str | None = None  #: for the agents of nodes


@dataclass
class Credential:
    """An access key; `expires` is a time as of `time.time()`, None for a long-lived key."""

    access_key: str
    secret_key: str
    principal: Principal
    token: str | None = None
    expires: float | None = None


@dataclass(frozen=True)
class Signature:
    """What a request says about its signature, not yet verified."""

    access_key: str
    region: str
    service: str
    date: str  #: X-Amz-Date
    signed_headers: tuple[str, ...]
    signature: str
    token: str | None
    presigned_seconds: int | None = None


@dataclass(frozen=True)
class RawRequest:
    """The parts of an HTTP request that a signature covers; `target` is path and query as they came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Vault:
    """All credentials of the lab."""

    def __init__(self, elsewhere: Callable[[str], Credential | None] = lambda access_key: None) -> None:
        self._by_key: dict[str, Credential] = {}
        self._elsewhere = elsewhere  # keys that users made with IAM's CreateAccessKey

    def add(self, credential: Credential) -> None:
        """Make a key known."""
        self._by_key[credential.access_key] = credential

    def issue(self, principal: Principal, seconds: float) -> Credential:
        """Temporary credentials that are good for `seconds`."""
        credential = Credential(
            access_key="ASIA" + "".join(secrets.choice(_ALPHABET) for _turn in range(16)),
            secret_key=secrets.token_urlsafe(30),
            principal=principal,
            token=secrets.token_urlsafe(180),
            expires=time.time() + seconds,
        )
        self.add(credential)
        return credential

    def get(self, access_key: str) -> Credential | None:
        """The credential of an access key."""
        return self._by_key.get(access_key) or self._elsewhere(access_key)

    def expire(self, *, role: str | None = None, access_key: str | None = None) -> int:
        """End temporary credentials now: those of a role, one key, or all of principals that are no nodes; how many."""
        count = 0
        for credential in self._by_key.values():
            if credential.expires is None or credential.expires <= time.time():
                continue
            if access_key is not None:
                chosen = credential.access_key == access_key
            elif role is not None:
                chosen = credential.principal.role == role
            else:
                chosen = credential.principal.node_id is None
            if chosen:
                credential.expires = time.time() - 1
                count += 1
        return count


def parse_signature(request: RawRequest) -> Signature | None:
    """Find the signature in the Authorization header or, for presigned URLs, in the query; None if there is none."""
    header = request.headers.get("Authorization", "")
    if header.startswith("AWS4-"):
        fields = dict(part.strip().split("=", 1) for part in header.partition(" ")[2].split(",") if "=" in part)
        credential, date = fields.get("Credential", ""), request.headers.get("X-Amz-Date", "")
        names, value = fields.get("SignedHeaders", ""), fields.get("Signature", "")
        token, presigned = request.headers.get("X-Amz-Security-Token"), None
    else:
        query = parse_qs(urlsplit(request.target).query)
        if "X-Amz-Credential" not in query:
            return None
        credential, date = query["X-Amz-Credential"][0], query.get("X-Amz-Date", [""])[0]
        names, value = query.get("X-Amz-SignedHeaders", [""])[0], query.get("X-Amz-Signature", [""])[0]
        token = query.get("X-Amz-Security-Token", [None])[0]
        presigned = int(query.get("X-Amz-Expires", ["900"])[0])
    parts = credential.rsplit("/", 4)
    if len(parts) != 5:
        return None
    return Signature(parts[0], parts[2], parts[3], date, tuple(names.split(";")), value, token, presigned)


def authenticate(
    vault: Vault,
    request: RawRequest,
    signature: Signature | None,
    protocol: WireProtocol,
    *,
    verify: bool = True,
    clock_ahead: float = 0.0,
) -> Principal:
    """The caller of a request; raises `AwsError` as the service would.

    :param clock_ahead: seconds by which the service's clock is ahead of this machine's.
    """
    if signature is None:
        raise unsigned(protocol)
    credential = vault.get(signature.access_key)
    if credential is None or (credential.token is not None and signature.token != credential.token):
        raise unknown_credentials(protocol)
    if credential.expires is not None and credential.expires <= time.time():
        raise expired_credentials(protocol)
    _check_date(signature, protocol, time.time() + clock_ahead)
    # A presigned URL's query is part of what it signs, in a form of its own: only key, token and dates are checked.
    if verify and signature.presigned_seconds is None and not _is_signed_by(credential, request, signature):
        raise bad_signature(protocol)
    return credential.principal


def _check_date(signature: Signature, protocol: WireProtocol, now: float) -> None:
    try:
        signed = datetime.datetime.strptime(signature.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise bad_signature(protocol) from None
    age = now - signed.timestamp()
    if signature.presigned_seconds is not None:
        if age > signature.presigned_seconds:
            raise AwsError("AccessDenied", "Request has expired", 403)
    elif abs(age) > _CLOCK_SKEW and protocol is WireProtocol.S3:
        raise AwsError("RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", 403)
    elif abs(age) > _CLOCK_SKEW:
        code = {WireProtocol.JSON: "InvalidSignatureException"}
        raise AwsError(
            code.get(protocol, "SignatureDoesNotMatch"),
            f"Signature expired: {signature.date} is not within {_CLOCK_SKEW / 60:.0f} minutes of the server's time",
            403,
        )


def _is_signed_by(credential: Credential, request: RawRequest, signature: Signature) -> bool:
    kind = _S3Signer if signature.service == "s3" else _Signer
    signer = kind(Credentials(credential.access_key, credential.secret_key), signature.service, signature.region)
    signer.names = signature.signed_headers
    headers = {name: request.headers[name] for name in signature.signed_headers if name in request.headers}
    for name in ("X-Amz-Date", "X-Amz-Content-SHA256"):
        if name in request.headers:
            headers[name] = request.headers[name]
    _path, _mark, query = request.target.partition("?")
    url, parameters = f"http://{request.headers.get('Host', '')}{request.target}", None
    if signature.service == "ssmmessages":  # agents and AWS's client sign what the query means, decoded
        url, parameters = url.removesuffix(f"?{query}"), parse_qsl(query, keep_blank_values=True)
    unsigned_request = AWSRequest(request.method, url, headers=headers, data=request.body, params=parameters)
    unsigned_request.context["timestamp"] = signature.date
    text = signer.string_to_sign(unsigned_request, signer.canonical_request(unsigned_request))
    return hmac.compare_digest(signer.signature(text, unsigned_request), signature.signature)


class _ExactHeaders(SigV4Auth):  # type: ignore[misc]  # botocore ships no types
    """Sign the headers that the caller has signed, no more and no fewer."""

    names: tuple[str, ...] = ()

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        chosen = HTTPHeaders()
        for name in self.names:
            chosen[name] = request.headers.get(name, "")
        return chosen


class _Signer(_ExactHeaders):
    pass


class _S3Signer(_ExactHeaders, S3SigV4Auth):  # type: ignore[misc]
    pass
