# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine nodes: a booted Debian with a real systemd, in which the agent is a service. Needs root.

systemd-nspawn runs over an overlay of the image (`image`). It is not registered with machined, so no systemd is needed
on the host; with `--keep-unit` it ends with status 133 when the machine reboots, and is started again here. This works
with control groups of version 1, 2 and both; of the host nothing but the network is shared.

The agent's unit is that of the real package: `Restart=always`, `RestartSec=90`, `KillMode=process`, so session workers
survive a restart, and a killed agent is away for 90 s. `options` of the spec: `restart_sec`, `agent`, a folder with
the programs of a real one, and `bare`: there is no agent, only what one that is installed there finds: trust in the lab's
CA, and the metadata service.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import os
import signal
import uuid
from pathlib import Path

from ..model import Endpoints, NodeSpec, NodeStatus
from .image import root_image
from .init import REBOOT
from .provision import setup_commands
from .real_agent import RealAgent, trust
from .supervisor import NodeError, Supervisor, agent_config

_UNIT = "amazon-ssm-agent.service"
_LIBRARY = "/usr/lib/fleet-lab"
_REGISTERED = "/var/lib/amazon/ssm/lab-registered"
_STOP_TIMEOUT = 20.0
_BOOT_TIMEOUT = 30.0
_POLL = 0.05

SERVICE = """[Unit]
Description=amazon-ssm-agent
After=network-online.target

[Service]
Type=simple
WorkingDirectory=/usr/bin/
{before}
ExecStart={command}
Environment={environment}
KillMode=process
Restart=always
RestartPreventExitStatus=194
RestartSec={restart_sec}

[Install]
WantedBy=multi-user.target
"""

#: Mounts the overlay where only nspawn sees it, sets the machine up once, and becomes nspawn.
_RUN = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
if [ ! -e "$2/root/var/lib/fleet-lab-setup-done" ]; then
    mount -t proc proc "$2/root/proc"
    env -i PATH="$PATH" chroot "$2/root" /bin/sh -ec "$3" < /dev/null
    umount "$2/root/proc"
    touch "$2/root/var/lib/fleet-lab-setup-done"
fi
directory=$2/root
shift 3
exec systemd-nspawn --directory="$directory" "$@"
"""


class MachineNode(Supervisor):
    """Supervises one systemd-nspawn."""

    def __init__(self, spec: NodeSpec, lab_dir: Path, endpoints: Endpoints) -> None:
        super().__init__(spec, lab_dir, endpoints)
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._real = RealAgent(spec, endpoints) if spec.options.get("agent") else None
        self._bare = bool(spec.options.get("bare"))

    async def start(self) -> None:
        if self._process is not None:
            return
        image = await root_image()
        self._status = NodeStatus.STARTING
        if self._real is not None:
            await self._real.start()
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._write_files(self.directory / "upper")
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                # nspawn takes its machine with it, and must not outlive the lab.
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-ec", _RUN, "sh"),
                *(str(image), str(self.directory), "\n".join(self._setup())),
                *self._nspawn_arguments(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watcher = asyncio.create_task(self._watch(self._process))
        await self._wait_for_boot(self._process)

    async def stop(self) -> None:
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGTERM)  # nspawn tells systemd to halt
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT)
            except TimeoutError:
                self._kill()
            await self._finished()
        if self._real is not None:
            await self._real.stop()
        self._status = NodeStatus.STOPPED

    async def crash(self) -> None:
        if self._process is None:
            return
        first = Path(f"/proc/{self._pid}")
        self._kill()
        await self._finished()
        while first.exists():  # the kernel still takes its processes apart, and the overlay is in use
            await asyncio.sleep(_POLL)
        self._status = NodeStatus.CRASHED

    async def reboot(self) -> None:
        if self._process is None:
            await self.start()
            return
        before = self._pid
        await self.run("systemctl reboot --no-block")
        async with asyncio.timeout(_STOP_TIMEOUT + _BOOT_TIMEOUT):
            while self._pid in (0, before):
                await asyncio.sleep(_POLL)

    async def kill_agent(self) -> None:
        await self.run(f"systemctl kill --kill-who=main --signal=KILL {_UNIT}")
        self._status = NodeStatus.AGENT_DOWN

    async def restart_agent(self) -> None:
        await self.run(f"systemctl reset-failed {_UNIT}; systemctl restart {_UNIT}")
        self._status = NodeStatus.RUNNING

    # What a machine is made of

    def _write_files(self, upper: Path) -> None:
        """What makes this machine of the image: names, and the agent with what it needs."""
        files = {
            "etc/hostname": f"{self._spec.name}\n",
            "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {self._spec.name}\n",
            **(self._surroundings() if self._bare else self._agent()),
        }
        for name, text in files.items():
            path = upper / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        identity = upper / "etc/machine-id"
        if not identity.exists():
            identity.write_text(uuid.uuid4().hex + "\n")
        if not self._bare:
            wanted = upper / "etc/systemd/system/multi-user.target.wants"
            wanted.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (wanted / _UNIT).symlink_to(f"/etc/systemd/system/{_UNIT}")

    def _surroundings(self) -> dict[str, str]:
        """What an agent finds that is installed later."""
        if self._spec.hybrid:
            return {}
        metadata = self._endpoints.metadata_url(self._spec.node_id)
        return {
            "etc/systemd/system.conf.d/lab.conf": f"[Manager]\nDefaultEnvironment=AWS_EC2_METADATA_SERVICE_ENDPOINT={metadata}\n"
        }

    def _agent(self) -> dict[str, str]:
        """The agent's unit and configuration, and the lab's CA."""
        files: dict[str, str] = {}
        command, environment, before = f"/usr/bin/python3 {_LIBRARY}/start {_LIBRARY}/config.json", "", ""
        if self._real is not None:
            command, environment = (
                "/usr/bin/amazon-ssm-agent",
                " ".join(f"{name}={value}" for name, value in self._real.environment()),
            )
            # Once: a second activation of the same node would be another node.
            register = " && ".join(self._real.registration())
            if register:
                before = (
                    f"ExecStartPre=/bin/sh -c '[ -s {_REGISTERED} ] || {{ {register} && echo yes > {_REGISTERED}; }}'"
                )
        else:
            # Sessions begin where the agent's unit puts it.
            config = dataclasses.replace(
                agent_config(self._spec, self._endpoints), ca_path=f"{_LIBRARY}/ca.pem", work_dir="/usr/bin"
            )
            files[f"{_LIBRARY[1:]}/config.json"] = config.to_json()
            files[f"{_LIBRARY[1:]}/start"] = "import runpy\n\nrunpy.run_module('agent', run_name='__main__')\n"
            files[f"{_LIBRARY[1:]}/ca.pem"] = self._endpoints.ca_path.read_text()
        files[f"etc/systemd/system/{_UNIT}"] = SERVICE.format(
            command=command,
            before=before,
            environment=environment,
            restart_sec=self._spec.options.get("restart_sec", 90),
        )
        return files

    def _setup(self) -> list[str]:
        """Shell commands that run in the machine's root before its first boot."""
        own = trust(self._endpoints) if self._bare else self._real.setup() if self._real else ()
        return [*setup_commands(self._spec.users), *own]

    def _nspawn_arguments(self) -> list[str]:
        binds = [] if self._bare else self._real.binds() if self._real else self._our_binds()
        return [
            "--boot",
            "--quiet",
            "--register=no",
            *([] if Path("/run/systemd/system").is_dir() else ["--keep-unit"]),
            f"--machine=lab-{os.getpid()}-{self._spec.node_id}",
            f"--hostname={self._spec.name}",
            "--console=passive",
            "--resolv-conf=off" if self._real else "--resolv-conf=copy-host",
            "--link-journal=no",
            *(f"--bind-ro={source}:{target}" for source, target in binds),
        ]

    def _our_binds(self) -> list[tuple[Path, str]]:
        found = importlib.util.find_spec("websockets")
        if found is None or found.origin is None:
            raise NodeError("the Python package websockets is not installed")
        return [
            (Path(__file__).parent / "agent", f"{_LIBRARY}/agent"),
            (Path(found.origin).parent, f"{_LIBRARY}/websockets"),
        ]

    # Inside

    async def _wait_for_boot(self, process: asyncio.subprocess.Process) -> None:
        """Until the machine's systemd runs."""
        try:
            async with asyncio.timeout(_BOOT_TIMEOUT):
                while not (pid := _machine_pid(process.pid)):
                    if process.returncode is not None or self._process is not process:
                        raise NodeError(f"{self._spec.name} did not boot: {self.last_words()}")
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            self._kill()
            raise NodeError(f"{self._spec.name} did not boot in {_BOOT_TIMEOUT:.0f} s: {self.last_words()}") from None
        self._pid = pid
        self._status = NodeStatus.RUNNING

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Wait for nspawn's end; start it again if the machine rebooted."""
        code = await process.wait()
        self._process, self._pid = None, 0
        if code == REBOOT:
            self._status = NodeStatus.REBOOTING
            self._restart = asyncio.create_task(self.start())
        else:
            self._status = NodeStatus.STOPPED if code == 0 else NodeStatus.CRASHED

    def _kill(self) -> None:
        process = self._process
        if process is not None:
            if self._pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def _finished(self) -> None:
        if self._watcher is not None:
            await self._watcher


def _machine_pid(nspawn: int) -> int:
    """Pid 1 of the machine as the host counts; 0 while systemd does not run."""
    for pid in _children(nspawn):
        with contextlib.suppress(OSError):
            namespaces = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].splitlines()[0].split()
            if (
                namespaces[-1] == "1"
                and len(namespaces) > 1
                and Path(f"/proc/{pid}/comm").read_text().strip() == "systemd"
            ):
                return pid
    return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
