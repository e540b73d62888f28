# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes made, driven and followed: what happens to an instance in EC2 happens to its node, and the other way round."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from . import instance_profiles, moto_bridge
from .dispatch import Dispatcher
from .model import Activation, Node, NodeKind, NodeSpec, NodeStatus
from .spec import NODE_ROLE, NodeDefinition
from .ssm_api.activations import new_activation
from .state import ManagedNode, random_hex
from .world import World

_log = logging.getLogger(__name__)

#: Kinds that have a process of their own.
EXECUTING = frozenset({NodeKind.PROCESS, NodeKind.MACHINE, NodeKind.AGENT, NodeKind.WINDOWS})
_ONLINE_SECONDS = 60.0


class Fleet:
    """The nodes of a lab."""

    def __init__(self, world: World, dispatcher: Dispatcher) -> None:
        self._world, self._dispatcher = world, dispatcher
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to follow EC2."""
        self._follower = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop all nodes."""
        if self._follower is not None:
            self._follower.cancel()
        runtimes = [node.runtime for node in self._world.nodes if node.runtime is not None]
        for result in await asyncio.gather(*(runtime.stop() for runtime in runtimes), return_exceptions=True):
            if isinstance(result, BaseException):
                _log.error("a node did not stop: %r", result)

    async def add(
        self, definitions: Sequence[NodeDefinition], report: Callable[[ManagedNode], None] = lambda node: None
    ) -> list[ManagedNode]:
        """Make nodes; returns when those that run are online. Raises `TimeoutError` naming those that are not."""
        definitions = [single for definition in definitions for single in definition.each()]
        nodes = await self._create(definitions)
        starting = [node for node, wanted in zip(nodes, definitions, strict=True) if wanted.state == "running" and node.runtime]
        await asyncio.gather(*(self._start(node, report) for node in starting))
        return nodes

    async def command(self, node: ManagedNode, verb: str) -> None:
        """Do one of the things a node or its instance can suffer; raises `ValueError` for another verb."""
        if verb == "start" and node.runtime is not None and node.runtime.status is NodeStatus.AGENT_DOWN:
            await node.runtime.restart_agent()
        elif verb in ("start", "stop", "terminate") and not node.spec.hybrid:
            moto_bridge.change_state(node.spec.account, node.spec.region, node.node_id, verb)
            await self._reconcile(node)
        elif verb == "terminate":
            await self._remove(node)
        elif verb in ("start", "stop", "kill_agent", "restart_agent", "crash", "reboot"):
            if node.spec.kind is NodeKind.SIMULATED and verb in ("start", "stop"):
                node.away = verb == "stop"
                return
            if node.runtime is None:
                raise ValueError(f"{node.spec.name} is a {node.spec.kind} node: nothing runs there")
            await getattr(node.runtime, verb)()
        else:
            raise ValueError(f"a node cannot {verb}")

    async def wait_online(self, nodes: Iterable[ManagedNode], seconds: float = _ONLINE_SECONDS) -> None:
        """Wait for the agents' control channels, or for the polls of those that may have none."""
        wanted = list(nodes)
        deadline = asyncio.get_running_loop().time() + seconds
        while missing := [node.spec.name for node in wanted if not (node.connected or (node.only_polls and node.polling))]:
            self._world.agent_came.clear()
            try:
                await asyncio.wait_for(self._world.agent_came.wait(), deadline - asyncio.get_running_loop().time())
            except TimeoutError:
                raise TimeoutError(f"no agent connected within {seconds:.0f} s: {', '.join(missing)}") from None

    # -- making

    async def _create(self, definitions: Sequence[NodeDefinition]) -> list[ManagedNode]:
        made: dict[int, ManagedNode] = {}
        instances: dict[tuple[str, str, str | None], list[int]] = {}
        for position, wanted in enumerate(definitions):
            if wanted.hybrid:
                made[position] = self._hybrid(wanted)
            else:
                instances.setdefault((wanted.account, wanted.region, wanted.profile), []).append(position)
        for (account, region, profile), positions in instances.items():
            tags = [{"Name": definitions[position].name, **definitions[position].tags} for position in positions]
            # Thousands of instances take moto seconds, in which the service has to go on.
            launched = await asyncio.to_thread(moto_bridge.launch, account, region, tags, profile=profile)
            for position, instance in zip(positions, launched, strict=True):
                made[position] = self._ec2(definitions[position], instance)
        nodes = [made[position] for position in range(len(definitions))]
        for node, wanted in zip(nodes, definitions, strict=True):
            self._world.nodes.add(node)
            self._settle(node, wanted)
        moto_bridge.remembered.forget()
        return nodes

    def _hybrid(self, wanted: NodeDefinition) -> ManagedNode:
        node_id = f"mi-{random_hex(17)}"
        if wanted.kind is NodeKind.SIMULATED:
            spec = _spec(wanted, node_id, "192.0.2.1", None)
            return ManagedNode(spec, tags=dict(spec.tags), role=NODE_ROLE)
        record = new_activation(wanted.account, wanted.region, NODE_ROLE, default_name=wanted.name, planned_ids=[node_id])
        self._world.activations[record.activation_id] = record
        spec = _spec(wanted, node_id, "192.0.2.1", Activation(record.activation_id, record.code))
        return ManagedNode(spec, tags={"Name": wanted.name, **wanted.tags}, role=NODE_ROLE)

    def _ec2(self, wanted: NodeDefinition, instance: Any) -> ManagedNode:
        if wanted.age:
            moto_bridge.make_older(wanted.account, wanted.region, instance, wanted.age)
        if wanted.state == "stopped":
            instance.stop()
        elif wanted.state == "terminated":
            instance.terminate()
        return ManagedNode(_spec(wanted, instance.id, instance.private_ip, None), gone=wanted.state == "terminated")

    def _settle(self, node: ManagedNode, wanted: NodeDefinition) -> None:
        if wanted.kind in EXECUTING and wanted.state != "terminated":
            node.runtime = self._spawn(node.spec)
        has_role = wanted.hybrid or wanted.profile is not None
        if wanted.registered or (wanted.kind is NodeKind.SIMULATED and wanted.state == "running" and has_role):
            node.registered = time.time()
            node.last_ping = time.time() if wanted.state == "running" else time.time() - 3600
        node.away = wanted.state != "running"

    def _spawn(self, spec: NodeSpec) -> Node:
        # Imported when the first node is to run: a lab of simulated nodes needs none of it.
        from .nodes import spawn_node

        assert self._world.endpoints is not None
        return spawn_node(spec, self._world.folder, self._world.endpoints)

    async def _start(self, node: ManagedNode, report: Callable[[ManagedNode], None]) -> None:
        assert node.runtime is not None
        report(node)
        await node.runtime.start()
        if (node.spec.role is not None or node.spec.hybrid) and not node.spec.options.get("bare"):
            await self.wait_online([node])
        report(node)

    # -- following EC2

    async def _follow(self) -> None:
        while True:
            await self._dispatcher.ec2_changed.wait()
            self._dispatcher.ec2_changed.clear()
            rebooted, self._dispatcher.rebooted = set(self._dispatcher.rebooted), []
            for node in list(self._world.nodes):
                if node.spec.hybrid:
                    continue
                try:
                    if node.node_id in rebooted and node.runtime is not None:
                        await node.runtime.reboot()
                    await self._reconcile(node)
                except Exception:
                    _log.exception("%s could not follow its instance", node.spec.name)

    async def _reconcile(self, node: ManagedNode) -> None:
        instance = moto_bridge.instance_of(node.spec.account, node.spec.region, node.node_id)
        state = instance.state if instance is not None else "terminated"
        if state in ("terminated", "shutting-down"):
            if not node.gone:
                await self._remove(node)
        elif node.spec.kind is NodeKind.SIMULATED:
            node.away = state == "stopped"
            instance_profiles.register(self._world, node)
        elif node.runtime is not None:
            runs = node.runtime.status is not NodeStatus.STOPPED
            if state == "stopped" and runs:
                await node.runtime.stop()
            elif state == "running" and (not runs or node.runtime.status is NodeStatus.CRASHED):
                await node.runtime.start()

    async def _remove(self, node: ManagedNode) -> None:
        node.gone = True
        if node.runtime is not None:
            await node.runtime.stop()
        await self._world.sessions.node_gone(node)


def _spec(wanted: NodeDefinition, node_id: str, address: str, activation: Activation | None) -> NodeSpec:
    return NodeSpec(
        node_id=node_id,
        name=wanted.name,
        account=wanted.account,
        region=wanted.region,
        kind=wanted.kind,
        tags={"Name": wanted.name, **wanted.tags},
        users=tuple(wanted.users),
        python=wanted.python,
        hybrid=wanted.hybrid,
        activation=activation,
        role=None if wanted.hybrid else wanted.profile,
        address=address,
        platform_type=wanted.platform_type,
        agent_version=wanted.agent_version,
        options=dict(wanted.options),
    )
