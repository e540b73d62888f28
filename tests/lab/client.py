# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab for tests: `with Lab() as lab: …` starts one as a process of its own and drives it."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar
from urllib.parse import quote

from .environment import environment, write_inventory
from .model import NodeKind
from .nodes.user_namespace import remove_tree
from .proxy import Proxy
from .spec import LabSpec, NodeDefinition, default_nodes

REPOSITORY = Path(__file__).resolve().parents[2]
_START_SECONDS = 120.0
_ANSWER_SECONDS = 1200.0
"""The root of machine nodes may have to be made first."""


class LabError(Exception):
    """The lab refused or failed; the text says why."""


class ControlClient:
    """Speaks to the control API of a running lab."""

    def __init__(self, path: str) -> None:
        self._path = path

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; raises `LabError`."""
        connection = _UnixConnection(self._path)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            found = json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException) as problem:
            raise LabError(f"the lab does not answer: {problem}") from problem
        finally:
            connection.close()
        if answer.status >= 400:
            raise LabError(found.get("error", "failed") if isinstance(found, dict) else str(found))
        return found


class LabNode:
    """One node, by name or id; its attributes are as of the last look."""

    def __init__(self, control: ControlClient, values: Mapping[str, Any]) -> None:
        self._control, self._values = control, values

    node_id = property(lambda self: str(self._values["node_id"]))
    name = property(lambda self: str(self._values["name"]))
    account = property(lambda self: str(self._values["account"]))
    region = property(lambda self: str(self._values["region"]))
    kind = property(lambda self: str(self._values["kind"]))
    hybrid = property(lambda self: bool(self._values["hybrid"]))

    @property
    def tags(self) -> dict[str, str]:
        """Tags given when it was made."""
        return dict(self._values["tags"])

    @property
    def status(self) -> str:
        """What its supervisor says now: running, stopped, …"""
        return str(self._command("show")["status"])

    @property
    def connected(self) -> bool:
        """Whether its agent is connected now."""
        return bool(self._command("show")["connected"])

    def start(self, *, wait: bool = True) -> None:
        """Start it (and its EC2 instance)."""
        self._command("start")
        if wait:
            self.wait_online()

    def stop(self) -> None:
        """Stop it in order (and its EC2 instance)."""
        self._command("stop")

    def terminate(self) -> None:
        """End it for ever."""
        self._command("terminate")

    def kill_agent(self) -> None:
        """SIGKILL to the agent."""
        self._command("kill_agent")

    def restart_agent(self, *, wait: bool = True) -> None:
        """As `systemctl restart`."""
        self._command("restart_agent")
        if wait:
            self.wait_online()

    def crash(self) -> None:
        """As a power cut."""
        self._command("crash")

    def reboot(self, *, wait: bool = True) -> None:
        """In order, as an administrator does."""
        self._command("reboot")
        if wait:
            self.wait_online()

    def wait_online(self, seconds: float = 60) -> None:
        """Wait until its agent is connected; raises `LabError`."""
        self._command("wait", {"seconds": seconds})

    def enter_command(self, *command: str) -> list[str]:
        """argv of a root shell, or of another command, in it."""
        return list(self._command("enter", {"command": command})["argv"])

    def run(self, command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell command in it as root, past SSM: for arranging and checking in tests."""
        return subprocess.run(
            self.enter_command(), input=command, capture_output=True, text=True, check=check, timeout=120
        )

    def _command(self, verb: str, body: Any = None) -> Any:
        return self._control.call("POST", f"/nodes/{quote(self._values['node_id'])}/{verb}", body or {})

    def __repr__(self) -> str:
        return f"<LabNode {self.name} {self.node_id}>"


@dataclass(frozen=True)
class Requests:
    """API requests since the start or the last reset, by action (`ssm:StartSession`)."""

    counts: dict[str, int]  #: of controllers
    node_counts: dict[str, int]  #: of agents
    entries: list[dict[str, Any]]  #: the latest ones, as in requests.jsonl

    @property
    def total(self) -> int:
        """Of controllers."""
        return sum(self.counts.values())


class Fault:
    """A fault that is on; a context manager that switches it off."""

    def __init__(self, control: ControlClient, number: int) -> None:
        self._control, self.number = control, number

    def clear(self) -> None:
        """Switch it off."""
        self._control.call("DELETE", f"/faults?id={self.number}")

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


class Lab:
    """A lab of one's own, in a new folder under the temporary directory.

    `nodes` is a number of default nodes, or definitions (see `NodeDefinition`); `agent` a folder with a real agent's
    programs, with which all nodes of kind process then run.
    """

    #: Called with the folder of each lab that is about to end: to look at `requests.jsonl`.
    closing: ClassVar[list[Callable[[Path], None]]] = []

    def __init__(
        self,
        nodes: int | Sequence[Mapping[str, Any] | NodeDefinition] = 6,
        *,
        agent: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        accounts: Sequence[str] | None = None,
        regions: Sequence[str] | None = None,
    ) -> None:
        given = default_nodes(nodes) if isinstance(nodes, int) else nodes
        chosen = [node.as_json() if isinstance(node, NodeDefinition) else dict(node) for node in given]
        if agent:
            for node in chosen:
                if node.get("kind", NodeKind.PROCESS) == NodeKind.PROCESS:
                    node["kind"] = NodeKind.AGENT
                    node["options"] = {**(node.get("options") or {}), "agent": os.fspath(agent)}
        values: dict[str, Any] = {"nodes": chosen, "settings": dict(settings or {})}
        if accounts is not None:
            values["accounts"] = list(accounts)
        if regions is not None:
            values["regions"] = list(regions)
        self._spec = LabSpec.of(values)
        self._process: subprocess.Popen[str] | None = None
        self._known: dict[str, Any] = {}
        self._control = ControlClient("")
        self.folder = Path()

    # -- life

    def __enter__(self) -> Lab:
        self.folder = Path(tempfile.mkdtemp(prefix="fleet-ssm-lab-"))
        self.folder.chmod(0o755)  # nodes' users look for the CA here
        (self.folder / "spec.json").write_text(json.dumps(self._spec.as_json()), encoding="utf-8")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab", "serve", "--folder", str(self.folder)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,  # its end is the lab's end, however this process ends
            stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr.log").open("w"),
            text=True,
            env=_clean_environment(),
            # Ctrl-C in a test run is for pytest; the lab stops when it is told.
            start_new_session=True,
        )
        try:
            self._await_ready(self._process)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for look in self.closing:
                look(self.folder)
        finally:
            self.close()

    def close(self) -> None:
        """Stop all nodes and the service, delete the folder."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not os.environ.get("FLEET_SSM_KEEP_LAB"):
            remove_tree(self.folder)

    def _await_ready(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for event in _events(process.stdout):
            if event["event"] == "listening":
                self._known = event
                self._control = ControlClient(event["control"])
            elif event["event"] == "failed":
                raise LabError(event["error"])
            elif event["event"] == "ready":
                return
        log = (self.folder / "stderr.log").read_text(encoding="utf-8", errors="replace")
        raise LabError(f"the lab ended while it started\n{log[-4000:]}")

    # -- what it is

    @property
    def account(self) -> str:
        """The first account: the one whose key `env()` holds."""
        return str(self._known["accounts"][0])

    @property
    def accounts(self) -> list[str]:
        """All accounts."""
        return list(self._known["accounts"])

    @property
    def region(self) -> str:
        """The first region."""
        return str(self._known["regions"][0])

    @property
    def regions(self) -> list[str]:
        """All regions."""
        return list(self._known["regions"])

    @property
    def api_url(self) -> str:
        """http://127.0.0.1:…"""
        return str(self._known["api_url"])

    @property
    def https_url(self) -> str:
        """https://127.0.0.1:…"""
        return str(self._known["https_url"])

    @property
    def ca_path(self) -> Path:
        """PEM file of the lab's CA."""
        return Path(self._known["ca_path"])

    def env(self, *, account: str | None = None, region: str | None = None, tls: bool = False) -> dict[str, str]:
        """Environment for SDKs and Ansible."""
        return environment(self._known, account=account, region=region, tls=tls)

    def client(self, service: str, *, account: str | None = None, region: str | None = None, **values: Any) -> Any:
        """A boto3 client of an account's operator, without retries: what the lab answers is what a test sees."""
        from botocore.config import Config

        variables = self.env(account=account, region=region)
        settings: dict[str, Any] = {
            "region_name": variables["AWS_REGION"],
            "endpoint_url": variables["AWS_ENDPOINT_URL"],
            "aws_access_key_id": variables["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": variables["AWS_SECRET_ACCESS_KEY"],
            "config": Config(retries={"total_max_attempts": 1}),
        }
        return boto_session().client(service, **{**settings, **values})

    def write_inventory(self, path: Path) -> Path:
        """A plain inventory of all nodes, grouped by the tag Role."""
        write_inventory(path, self._control.call("GET", "/nodes"), self.account)
        return path

    # -- nodes

    def nodes(self) -> list[LabNode]:
        """All nodes."""
        return [LabNode(self._control, values) for values in self._control.call("GET", "/nodes")]

    def node(self, name: str) -> LabNode:
        """By name or id; raises `LabError`."""
        return LabNode(self._control, self._control.call("POST", f"/nodes/{quote(name)}/show", {}))

    def add(self, *nodes: Mapping[str, Any] | NodeDefinition) -> list[LabNode]:
        """Make further nodes, and wait for them."""
        wanted = [node.as_json() if isinstance(node, NodeDefinition) else dict(node) for node in nodes]
        return [LabNode(self._control, made) for made in self._control.call("POST", "/nodes", {"nodes": wanted})]

    def simulate(self, count: int, *, prefix: str = "sim", **values: Any) -> list[LabNode]:
        """Make nodes that only the API knows; `hybrid=True` is the cheapest kind."""
        kind = NodeKind.SIMULATED
        return self.add(*({"name": f"{prefix}-{number}", "kind": kind, **values} for number in range(1, count + 1)))

    # -- faults

    def fault(self, **values: Any) -> Fault:
        """Harm the frames of data channels: see `FrameFault` (latency, jitter, loss, duplicate, reorder, direction, …)."""
        return Fault(self._control, self._control.call("POST", "/faults/frames", values)["id"])

    def fault_calls(self, action: str, **values: Any) -> Fault:
        """Harm API calls: see `CallFault` (delay, status, code, ratio, count, lost, rate and burst)."""
        return Fault(self._control, self._control.call("POST", "/faults/calls", {"action": action, **values})["id"])

    def throttle(self, action: str, rate: float, burst: float = 1.0, **values: Any) -> Fault:
        """Let only `rate` calls a second of each action, account and region pass."""
        return self.fault_calls(action, rate=rate, burst=burst, **values)

    def lose_replies(self, action: str, count: int | None = None) -> Fault:
        """Serve so many calls (all without a number), but close the connection instead of answering."""
        return self.fault_calls(action, lost=True, count=count)

    def fault_events(self, **values: Any) -> Fault:
        """Harm the events of Run Command: see `EventFault` (loss, delay, count, way, account, region)."""
        return Fault(self._control, self._control.call("POST", "/faults/events", values)["id"])

    def cut(self, side: str = "client", *, node: str | None = None, session: str | None = None) -> int:
        """Break the data channels' websockets at one side; how many."""
        body = {"side": side, "node": node, "session": session}
        return int(self._control.call("POST", "/faults/cut", body)["cut"])

    def network_away(self, seconds: float, side: str = "client", *, node: str | None = None, mode: str = "hang") -> int:
        """Let nothing pass from or to a side; returns at once, with the number of connections that hang or broke."""
        body = {"seconds": seconds, "side": side, "node": node, "mode": mode}
        return int(self._control.call("POST", "/faults/away", body)["connections"])

    def clear_faults(self) -> None:
        """Switch all faults of frames and calls off."""
        self._control.call("DELETE", "/faults")

    def proxy(self, user: str | None = None, password: str = "") -> Proxy:
        """A proxy to be entered with `with`; AWS's own host names lead through it to this lab."""
        return Proxy(("127.0.0.1", int(self.https_url.rpartition(":")[2])), user, password)

    # -- credentials and permissions

    def expire_credentials(self, *, role: str | None = None, access_key: str | None = None) -> int:
        """End temporary credentials of controllers now; how many."""
        body = {"role": role, "access_key": access_key}
        return int(self._control.call("POST", "/credentials/expire", body)["expired"])

    def create_role(
        self, account: str, name: str, *, external_id: str | None = None, trusted: Sequence[str] | None = None
    ) -> str:
        """A role that the lab's accounts (or those trusted) may assume; its ARN."""
        body = {"account": account, "name": name, "external_id": external_id, "trusted": trusted}
        return str(self._control.call("POST", "/roles", body)["arn"])

    def deny(self, action: str, *, principal: str = "*", resource: str = "*") -> None:
        """Refuse an action (`ssm:StartSession`) with AccessDenied."""
        self._permission("deny", action, principal, resource)

    def allow(self, action: str, *, principal: str = "*", resource: str = "*") -> None:
        """Allow an action; the principals concerned then may do only what is allowed."""
        self._permission("allow", action, principal, resource)

    def policy(self, document: Mapping[str, Any], *, principal: str = "*") -> None:
        """Let an IAM policy document hold for principals, and nothing else."""
        self._control.call("POST", "/permissions", {"principal": principal, "policy": document})

    def endpoint_policy(self, document: Mapping[str, Any]) -> None:
        """Give the VPC's endpoint for S3 a policy: what nodes ask of S3, by URLs that others have signed too, must be allowed by it."""
        self._control.call("POST", "/endpoint-policy", {"policy": document})

    def clear_permissions(self) -> None:
        """Everyone may do everything again, from everywhere."""
        self._control.call("DELETE", "/permissions")

    def _permission(self, effect: str, action: str, principal: str, resource: str) -> None:
        body = {"effect": effect, "action": action, "principal": principal, "resource": resource}
        self._control.call("POST", "/permissions", body)

    # -- settings and books

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change settings (see `Settings`); all of them as they are now."""
        return dict(self._control.call("POST", "/settings", values))

    def requests(self, *, entries: bool = False) -> Requests:
        """What was asked of the API."""
        found = self._control.call("GET", "/requests" + ("?entries=1" if entries else ""))
        return Requests(found["counts"], found["node_counts"], found.get("entries", []))

    def reset_requests(self) -> None:
        """Count from zero."""
        self._control.call("DELETE", "/requests")

    def sessions(self, *, active: bool | None = None) -> list[dict[str, Any]]:
        """All sessions, or those that are open (or ended)."""
        found = self._control.call("GET", "/sessions")
        return [session for session in found if active is None or session["active"] is active]

    def status(self) -> dict[str, Any]:
        """Numbers of nodes, sessions, frames and bytes; faults and settings."""
        return dict(self._control.call("GET", "/status"))


@functools.cache
def _models() -> Any:
    from botocore.loaders import create_loader

    return create_loader()


def boto_session() -> Any:
    """A session of boto3 as the environment is now. All of them share the services' models, which take longer to read than a call of the lab."""
    import boto3
    import botocore.session

    session = botocore.session.Session()
    session.register_component("data_loader", _models())
    return boto3.session.Session(botocore_session=session)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("lab", timeout=_ANSWER_SECONDS)
        self._socket_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _events(stream: IO[str]) -> Iterator[dict[str, Any]]:
    for line in stream:
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _clean_environment() -> dict[str, str]:
    """The lab must not meet settings that are meant for its clients."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ANSIBLE_"))}
