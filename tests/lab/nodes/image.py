# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root of machine nodes: a small Debian with systemd, made once and kept in a cache.

It lies in `FLEET_SSM_LAB_CACHE`, by default `~/.cache/fleet-ssm-lab`, and comes from `FLEET_SSM_LAB_MIRROR`, by default
`http://deb.debian.org/debian`. Making it takes a minute or so and needs the network; each machine is an overlay over it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from .supervisor import NodeError

_SUITE = "bookworm"
_NAME = f"debian-{_SUITE}-2"  #: with another number here, existing caches are made anew
_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
#: What a Debian server usually has, as far as playbooks and tests ask for it.
_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "login", "procps", "iproute2", "less", "ca-certificates"),
    *("sudo", "opendoas", "openssh-server", "python3", "python3-cryptography", "python3-apt"),
    # What the role agent can do its work with, and what builds its package.
    *("curl", "wget", "gpg", "gpgv", "sqv", "rpm"),
)
#: The network is the host's: its port 22 is not a machine's. The others only disturb.
_MASKED = (
    *("ssh.service", "ssh.socket", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer"),
    *("console-getty.service", "systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"),
)


def check_requirements() -> None:
    """Raises NodeError that says what is missing, and how to get it."""
    if os.geteuid() != 0:
        raise NodeError("machine nodes are systemd-nspawn containers and need root; run the lab as root")
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise NodeError(f"machine nodes need the packages {', '.join(missing)}: apt-get install {' '.join(missing)}")
    if not Path("/sys/fs/cgroup").is_mount():
        raise NodeError(
            "machine nodes need control groups: /sys/fs/cgroup is not mounted (mount -t cgroup2 none /sys/fs/cgroup)"
        )


async def root_image() -> Path:
    """The folder of the image; made now if there is none. Raises NodeError."""
    check_requirements()
    cache = Path(os.environ.get("FLEET_SSM_LAB_CACHE") or Path.home() / ".cache" / "fleet-ssm-lab")
    image = cache / _NAME
    if not image.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        async with _alone(cache / f"{_NAME}.lock"):
            if not image.is_dir():
                await _make(image)
    return image


@contextlib.asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Hold a lock that other labs respect."""
    with path.open("w") as file:
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_EX)
        yield


async def _make(image: Path) -> None:
    draft = image.with_suffix(".part")
    log = image.with_suffix(".log")
    await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
    process = await asyncio.create_subprocess_exec(
        # Its mounts and processes are its own: nothing stays mounted or goes on to write when it is broken off.
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("sh", "-ec", _SCRIPT, "sh", str(draft)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=log.open("wb"),
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
    )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        words = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise NodeError(f"the root of machine nodes could not be made ({log}): {' / '.join(words)}")
    draft.rename(image)


#: debootstrap does not resolve virtual packages, so it makes only what apt needs.
_SCRIPT = rf"""
mirror=${{FLEET_SSM_LAB_MIRROR:-http://deb.debian.org/debian}}
debootstrap --variant=minbase --include=ca-certificates {_SUITE} "$1" "$mirror"
echo "deb $mirror {_SUITE} main" > "$1/etc/apt/sources.list"
cp -L /etc/resolv.conf "$1/etc/resolv.conf"
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
chroot "$1" apt-get update -q
chroot "$1" apt-get install -qy --no-install-recommends {" ".join(_PACKAGES)}
rm "$1/usr/sbin/policy-rc.d"
chroot "$1" apt-get clean
rm -rf "$1"/var/lib/apt/lists/* "$1"/etc/ssh/ssh_host_* "$1/etc/machine-id"
for unit in {" ".join(_MASKED)}; do ln -sf /dev/null "$1/etc/systemd/system/$unit"; done
passwd --root "$1" --lock root
"""
