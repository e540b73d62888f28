# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the node is, and its credentials: an EC2 instance with its metadata service, or a registered hybrid node.

Credentials lie in a file that only root reads, so that session workers, who outlive the agent, find fresh ones.
"""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from datetime import datetime
from typing import Any

from .service import Service, ServiceError
from .signing import Credentials

_EARLY = 300.0  #: seconds before the end at which credentials count as used up


def stored_credentials(service: Service) -> Credentials:
    """The credentials that the agent left for session workers. Raises ServiceError."""
    try:
        given = json.loads((service.config.state / "credentials.json").read_text())
    except (OSError, ValueError) as error:
        raise ServiceError(0, f"no credentials: {error}") from error
    return Credentials(**given)


class Identity:
    """Gives credentials, renewed in time."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._config = service.config
        self._state = service.config.state
        self._credentials: Credentials | None = None

    def credentials(self) -> Credentials:
        """Valid credentials. Raises ServiceError when the node has none (yet)."""
        known = self._credentials
        if known is None or (known.expires and known.expires - _EARLY < time.time()):
            known = self._hybrid() if self._config.hybrid else self._metadata()
            self._credentials = known
            self._store("credentials.json", vars(known))
        return known

    def register(self) -> str:
        """Register with the activation, unless that was done; the node's id. Raises ServiceError."""
        return self._registration()["node_id"]

    def _metadata(self) -> Credentials:
        base = self._config.metadata_url.rstrip("/")
        url = f"{base}/latest/meta-data/iam/security-credentials/"
        status, answer = self._service.request("GET", url, {})
        if status != 200:  # asked each time: a profile can be attached to a running instance
            raise ServiceError(status, "the instance has no instance profile")
        role = answer.decode().split("\n")[0].strip()
        status, answer = self._service.request("GET", url + role, {})
        if status != 200:
            raise ServiceError(status, f"no credentials of role {role} in the metadata")
        given: dict[str, Any] = json.loads(answer)
        expires = datetime.fromisoformat(given["Expiration"].replace("Z", "+00:00")).timestamp()
        return Credentials(given["AccessKeyId"], given["SecretAccessKey"], given.get("Token", ""), expires)

    def _hybrid(self) -> Credentials:
        registration = self._registration()
        arguments = {"Fingerprint": registration["fingerprint"]}
        # The agent signs by its RSA key in a header of its own; the key id of the usual signature is the node's id.
        key = Credentials(registration["node_id"], registration["private_key"])
        signature = base64.b64encode(
            _rsa_signature(registration["private_key"], json.dumps(arguments).encode())
        ).decode()
        answer = self._service.call(
            "AmazonSSM.RequestManagedInstanceRoleToken",
            arguments,
            key,
            extra={"SSM-AsymmetricKeyAuthorization": f"RSA Signature={signature}"},
        )
        expires = answer["TokenExpirationDate"]
        if isinstance(expires, str):
            expires = datetime.fromisoformat(expires.replace("Z", "+00:00")).timestamp()
        return Credentials(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"], float(expires))

    def _registration(self) -> dict[str, str]:
        """What registration gave; a node registers once, restarts and reboots keep it."""
        path = self._state / "registration.json"
        if path.exists():
            known: dict[str, str] = json.loads(path.read_text())
            return known
        private, public = _new_key()
        fingerprint = str(uuid.uuid4())
        answer = self._service.call(
            "AmazonSSM.RegisterManagedInstance",
            {
                "ActivationCode": self._config.activation_code,
                "ActivationId": self._config.activation_id,
                "Fingerprint": fingerprint,
                "PublicKey": public,
                "PublicKeyType": "Rsa",
            },
            None,
        )
        known = {"node_id": answer["InstanceId"], "fingerprint": fingerprint, "private_key": private}
        self._store("registration.json", known)
        return known

    def _store(self, name: str, content: dict[str, Any]) -> None:
        """Write a file that only root reads, whole or not at all."""
        self._state.mkdir(parents=True, exist_ok=True)
        part = self._state / f".{name}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file)
        part.rename(self._state / name)


def _new_key() -> tuple[str, str]:
    """A new RSA key: private and public part, each DER in base64."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(private).decode(), base64.b64encode(public).decode()


def _rsa_signature(private_key: str, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = serialization.load_der_private_key(base64.b64decode(private_key), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
