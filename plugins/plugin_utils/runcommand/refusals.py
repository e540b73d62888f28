# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a node could not carry out a script of ours, in words: what it lacks, or how S3 answered to a presigned URL, and what to do. No I/O."""

from __future__ import annotations

import re

_CODE = re.compile(r"<Code>([^<]*)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]*)</Message>")

_REMEDIES = {
    "RequestTimeTooSkewed": "the clock of the machine that Ansible runs on is wrong: set it",
    "ExpiredToken": "the credentials that signed it have expired: renew them",
    "InvalidAccessKeyId": "the credentials that signed it are not valid any more",
    "NoSuchBucket": "the bucket does not exist: check the option bucket",
    "NoSuchKey": "the object is gone: somebody, or a lifecycle rule, has deleted it",
    "PermanentRedirect": "the bucket is in another region: set the option bucket_region, or s3_addressing_style: virtual",
    "TemporaryRedirect": "the bucket is new, in another region: set the option bucket_region, or s3_addressing_style: virtual",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set the option bucket_region",
    "SignatureDoesNotMatch": "a proxy between the node and S3 changes requests, or a header that the bucket's policy demands is missing",
    "KMS.DisabledException": "the bucket's KMS key is disabled",
    "KMS.NotFoundException": "the KMS key does not exist: check the option bucket_sse_kms_key_id",
    "KMS.KMSInvalidStateException": "the KMS key cannot be used in its state",
    "SlowDown": "S3 limits the rate of requests: use fewer forks",
}

_LACKING = {
    "folder": "a folder that root alone may write to (tried were /var/lib, ~/.ansible and /var/tmp): make room for one of them",
    "curl": "curl and Python 3, by one of which content passes between it and the bucket: install one, or use route: session, which needs no bucket",
    "gzip": "gzip: install it, or use route: session",
    "base64": "base64 and openssl, by one of which bytes are put in text: install one, or use route: session",
}


def lacking(word: str) -> str:
    """What the node has not that a script of ours needs, and the remedy."""
    return _LACKING.get(word, word)


def explain(detail: str, *, verb: str, bucket: str, key: str) -> str:
    """A sentence.

    :param detail: the HTTP status (000: there was no answer) and what came with it.
    :param verb: what the node was to do: "fetch" or "send".
    """
    status, _blank, body = detail.partition(" ")
    found, said = _CODE.search(body), _MESSAGE.search(body)
    code, message = found[1] if found else "", said[1] if said else ""
    what = f"the node could not {verb} s3://{bucket}/{key} by a presigned URL"
    if status == "000" and "certificate" in body.lower():
        return f"{what}: it does not trust S3's certificate (its clock is wrong, its CA certificates are old, or a proxy has one of its own): {body.strip()}"
    if status == "000":
        return f"{what}: it has no connection to S3 (a gateway endpoint, a NAT, or a proxy for the agent is missing): {body.strip() or 'no answer'}"
    answer = f"S3 answered {status} {code}".rstrip() + (f", {message}" if message else "")
    if "expired" in message.lower() and code in ("AccessDenied", "ExpiredToken"):
        late = "the URL has expired: the clock of the machine that Ansible runs on is wrong, or the node began the command too late"
        remedy = _REMEDIES["ExpiredToken"] if code == "ExpiredToken" else late
    elif "kms" in message.lower() and code not in _REMEDIES:
        action = "kms:Decrypt" if verb == "fetch" else "kms:GenerateDataKey"
        remedy = f"allow {action} on the bucket's KMS key to the credentials that Ansible runs with, in their policy and in the key's"
    elif "vpc endpoint" in message.lower() or "VPCE" in message:
        remedy = "the policy of the VPC's endpoint for S3 does not allow it: allow the bucket there"
    elif "resource-based policy" in message:
        action = "s3:GetObject" if verb == "fetch" else "s3:PutObject"
        remedy = f"the bucket's policy must allow {action} to the credentials that Ansible runs with, as it is another account's"
    elif code == "AccessDenied" or (status == "403" and not code):
        action = "s3:GetObject" if verb == "fetch" else "s3:PutObject"
        remedy = f"allow {action} to the credentials that Ansible runs with; or the bucket's policy, or that of the VPC's endpoint for S3, forbids it"
    else:
        remedy = _REMEDIES.get(code, "")
    return f"{what}: {answer}{': ' if remedy else ''}{remedy}"
