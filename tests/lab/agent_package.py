# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's agent as a Debian package, and a download location for it that looks like the service's own.

Layout, as in the buckets `amazon-ssm-REGION` (documentation of SSM Agent, "Verifying the signature of SSM Agent", and the
agent's source): `latest/VERSION`, and `latest/` and `VERSION/` with `debian_amd64/amazon-ssm-agent.deb` and its detached
signature `….deb.sig`. Places in the package, its version `X.Y.Z.W-1` and what its scripts do are those of the real one.

Needs the programs dpkg-deb and gpg.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .nodes.machine import SERVICE

LIBRARY = "usr/lib/amazon-ssm-agent"
_SIGNER = "SSM Agent <ssm-agent-signer@lab.invalid>"

_PROGRAM = """#!/usr/bin/python3
import sys

sys.path.insert(0, "/{library}")
from agent.installed import main

sys.exit(main("{version}", sys.argv[1:]))
"""

_CONTROL = """Package: amazon-ssm-agent
Architecture: {architecture}
Version: {version}-1
Section: admin
Priority: optional
Depends: python3, python3-cryptography
Maintainer: fleet.ssm <lab@lab.invalid>
Description: The lab's agent, in the place of the real one
"""

_BEFORE = """#!/bin/sh
[ ! -d /run/systemd/system ] || systemctl stop amazon-ssm-agent || true
"""
_AFTER = """#!/bin/sh
set -e
{first}
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
systemctl enable amazon-ssm-agent
systemctl start amazon-ssm-agent
"""
_REMOVAL = """#!/bin/sh
[ -d /run/systemd/system ] || exit 0
systemctl stop amazon-ssm-agent || true
systemctl disable amazon-ssm-agent || true
"""


class Signer:
    """A key pair of its own, in a folder that `close` removes. Usable with `with`."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="lab-gpg-"))
        self._gpg("--passphrase", "", "--quick-generate-key", _SIGNER, "rsa2048", "sign", "never")

    def __enter__(self) -> Signer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what gpg has started, and forget the key."""
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(self._home, ignore_errors=True)

    def public_key(self) -> str:
        """As it is published: in ASCII armour."""
        return self._gpg("--armor", "--export").decode()

    def sign(self, content: bytes) -> bytes:
        """A detached signature."""
        return self._gpg("--detach-sign", "--output", "-", "-", given=content)

    def _gpg(self, *arguments: str, given: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, input=given, check=True, capture_output=True).stdout


def build_package(version: str, *, architecture: str = "amd64", first: str = "") -> bytes:
    """A package; `first` are shell commands of its postinst before the service starts, e.g. `exit 1`."""
    with tempfile.TemporaryDirectory(prefix="lab-deb-") as folder:
        tree, made = Path(folder, "tree"), Path(folder, "made.deb")
        library = tree / LIBRARY
        for name, source in _packages():
            shutil.copytree(source, library / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyi", "*.c"))
        unit = SERVICE.format(command="/usr/bin/amazon-ssm-agent", before="", environment="", restart_sec=90)
        texts = {
            "usr/bin/amazon-ssm-agent": (_PROGRAM.format(library=LIBRARY, version=version), 0o755),
            "lib/systemd/system/amazon-ssm-agent.service": (unit, 0o644),
            "etc/amazon/ssm/amazon-ssm-agent.json.template": ("{}\n", 0o644),
            "DEBIAN/control": (_CONTROL.format(architecture=architecture, version=version), 0o644),
            "DEBIAN/preinst": (_BEFORE, 0o755),
            "DEBIAN/postinst": (_AFTER.format(first=first), 0o755),
            "DEBIAN/prerm": (_REMOVAL, 0o755),
        }
        for name, (text, mode) in texts.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(mode)
        for path in [tree, *tree.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(made)],
            check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        return made.read_bytes()


def download_location(packages: dict[str, bytes], signer: Signer, latest: str) -> Iterator[tuple[str, bytes]]:
    """Each key and its content. `packages` are by version."""
    yield "latest/VERSION", latest.encode()
    for version, package in packages.items():
        for folder in (version, *(("latest",) if version == latest else ())):
            yield f"{folder}/debian_amd64/amazon-ssm-agent.deb", package
            yield f"{folder}/debian_amd64/amazon-ssm-agent.deb.sig", signer.sign(package)


def publish(s3: Any, bucket: str, region: str, packages: dict[str, bytes], signer: Signer) -> None:
    """Put packages into a bucket that anyone may read. The last of them is the latest. `s3` is a client of boto3."""
    # us-east-1 is where buckets are that say nothing.
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **place)
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    for key, content in download_location(packages, signer, list(packages)[-1]):
        s3.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")


def _packages() -> Iterator[tuple[str, Path]]:
    yield "agent", Path(__file__).parent / "nodes" / "agent"
    found = importlib.util.find_spec("websockets")
    if found is None or found.origin is None:
        raise RuntimeError("the Python package websockets is not installed")
    yield "websockets", Path(found.origin).parent
