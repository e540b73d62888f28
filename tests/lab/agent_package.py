# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's agent as a package of Debian or of rpm, and a download location for it that looks like the service's own.

Layout, as in the buckets `amazon-ssm-REGION` (documentation of SSM Agent, "Verifying the signature of SSM Agent", and the
agent's source): `latest/VERSION`, and `latest/` and `VERSION/` with `debian_amd64/amazon-ssm-agent.deb` or
`linux_amd64/amazon-ssm-agent.rpm`, and its detached signature `….sig`. Places in the packages, their version `X.Y.Z.W-1` and
what their scripts do are those of the real ones: an rpm restarts an agent that runs, and starts none.

Where they are installed, the agent needs python3 and python3-cryptography. Building takes the programs dpkg-deb and gpg, and
rpmbuild for an rpm.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .nodes.machine import SERVICE

LIBRARY = "usr/lib/amazon-ssm-agent"
DEB, RPM = "debian_amd64/amazon-ssm-agent.deb", "linux_amd64/amazon-ssm-agent.rpm"
_SIGNER = "SSM Agent <ssm-agent-signer@lab.invalid>"
#: When the service's first key was made. That one has expired since, and its packages are still installed.
_THEN = "20250122T181926"

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
Maintainer: fleet.ssm <lab@lab.invalid>
Description: The lab's agent, in the place of the real one
"""

_SPEC = """
Name: amazon-ssm-agent
Version: {version}
Release: 1
Summary: The lab's agent, in the place of the real one
License: GPLv3+
AutoReqProv: no

%description
The lab's agent.

%install
cp -a %{{_sourcedir}}/. %{{buildroot}}

%files
%defattr(-,root,root,0755)
/usr/bin/amazon-ssm-agent
/{library}
/lib/systemd/system/amazon-ssm-agent.service
/etc/amazon/ssm/amazon-ssm-agent.json.template

%pre
{before}

%preun
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
    systemctl stop amazon-ssm-agent
    systemctl disable amazon-ssm-agent
fi

%post
{after}
if [ "$1" -gt 1 ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart amazon-ssm-agent
fi
"""
#: From a tar on stdin to an rpm on stdout. A machine that boots empties its /tmp.
_RPMBUILD = """
folder=$(mktemp -d -p /var/tmp)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
tar -x
set -- --define "_topdir $folder" --define "_binary_payload w1.gzdio" --define "debug_package %{nil}" --define "__os_install_post %{nil}"
rpmbuild -bb --quiet --target x86_64-linux "$@" SPECS/spec >&2
cat RPMS/x86_64/*.rpm
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
    """A key pair of its own, which has expired by now, in a folder that `close` removes. Usable with `with`.

    `digest` is what binds the name to the key; in the service's own keys that is SHA1.
    """

    def __init__(self, digest: str = "SHA512") -> None:
        self._home = Path(tempfile.mkdtemp(prefix="lab-gpg-"))
        self._gpg("--cert-digest-algo", digest, "--passphrase", "", "--quick-generate-key", _SIGNER, "rsa2048", "sign", "1y")

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
        command = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--faked-system-time", _THEN, *arguments]
        return subprocess.run(command, input=given, check=True, capture_output=True).stdout


def build_deb(version: str, *, architecture: str = "amd64", first: str = "") -> bytes:
    """A Debian package; `first` are shell commands of its postinst before the service starts, e.g. `exit 1`."""
    with tempfile.TemporaryDirectory(prefix="lab-deb-") as folder:
        tree, made = Path(folder, "tree"), Path(folder, "made.deb")
        _write_agent(tree, version)
        _write(tree / "DEBIAN/control", _CONTROL.format(architecture=architecture, version=version))
        for name, text in (("preinst", _BEFORE), ("postinst", _AFTER.format(first=first)), ("prerm", _REMOVAL)):
            _write(tree / "DEBIAN" / name, text, 0o755)
        for path in [tree, *tree.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(made)],
            check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        return made.read_bytes()


def build_rpm(version: str, shell: Sequence[str] = ("sh", "-ec"), *, before: str = "", after: str = "") -> bytes:
    """An rpm, built by `shell`, which runs a script where rpmbuild is, such as on a node.

    `before` and `after` are shell commands that begin its %pre and its %post, e.g. `exit 1`.
    """
    with tempfile.TemporaryDirectory(prefix="lab-rpm-") as folder:
        _write_agent(Path(folder, "SOURCES"), version)
        _write(Path(folder, "SPECS/spec"), _SPEC.format(version=version, library=LIBRARY, before=before, after=after))
        sources = io.BytesIO()
        with tarfile.open(fileobj=sources, mode="w") as tar:
            tar.add(folder, ".")
        return subprocess.run([*shell, _RPMBUILD], input=sources.getvalue(), check=True, stdout=subprocess.PIPE).stdout


def download_location(packages: Mapping[str, bytes], place: str, signer: Signer, latest: str) -> Iterator[tuple[str, bytes]]:
    """Each key and its content. `packages` are by version, `place` is where they are below that."""
    yield "latest/VERSION", latest.encode()
    for version, package in packages.items():
        for folder in (version, *(("latest",) if version == latest else ())):
            yield f"{folder}/{place}", package
            yield f"{folder}/{place}.sig", signer.sign(package)


def publish(s3: Any, bucket: str, region: str, packages: Mapping[str, bytes], signer: Signer, place: str = DEB) -> None:
    """Put packages, by version, into a new bucket that anyone may read. The last of them is the latest. `s3` is a client of boto3."""
    # us-east-1 is where buckets are that say nothing.
    location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **location)
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    for key, content in download_location(packages, place, signer, list(packages)[-1]):
        s3.put_object(Bucket=bucket, Key=key, Body=content, ACL="public-read")


def _write_agent(tree: Path, version: str) -> None:
    """What packages of both kinds install."""
    for name, source in _packages():
        shutil.copytree(source, tree / LIBRARY / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyi", "*.c"))
    _write(tree / "usr/bin/amazon-ssm-agent", _PROGRAM.format(library=LIBRARY, version=version), 0o755)
    unit = SERVICE.format(command="/usr/bin/amazon-ssm-agent", before="", environment="", restart_sec=90)
    _write(tree / "lib/systemd/system/amazon-ssm-agent.service", unit)
    _write(tree / "etc/amazon/ssm/amazon-ssm-agent.json.template", "{}\n")


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _packages() -> Iterator[tuple[str, Path]]:
    yield "agent", Path(__file__).parent / "nodes" / "agent"
    found = importlib.util.find_spec("websockets")
    if found is None or found.origin is None:
        raise RuntimeError("the Python package websockets is not installed")
    yield "websockets", Path(found.origin).parent
