# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's one process: endpoint, message gateway, metadata, control API, and the supervisors of the nodes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from . import metadata
from .certificates import create_certificates
from .channels import Gateway
from .control_api import ControlApi
from .dispatch import Dispatcher
from .environment import describe
from .fleet import Fleet
from .model import Endpoints
from .nodes.user_namespace import remove_tree
from .request_log import LoggedRequest, RequestLog
from .settings import Settings
from .spec import LabSpec
from .state import ManagedNode
from .world import World

_log = logging.getLogger(__name__)

#: Told about progress: `{"event": "listening" | "node" | "ready" | "failed" | "stopped", …}`.
Report = Callable[[dict[str, Any]], None]

_LARGEST_BODY = 1024 * 1024 * 1024


async def serve(
    folder: Path,
    spec: LabSpec,
    report: Report,
    *,
    watch_stdin: bool = False,
    on_request: Callable[[LoggedRequest], None] | None = None,
) -> None:
    """Run a lab in `folder` until SIGINT, SIGTERM, a request of the control API, or (if watched) the end of stdin."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    logging.basicConfig(filename=folder / "lab.log", level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    _raise_file_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if watch_stdin:
        loop.add_reader(sys.stdin.fileno(), _on_stdin, stop, loop)
    settings = Settings()
    settings.update(spec.settings)
    world = World(folder, settings, RequestLog(folder / "requests.jsonl", on_request), spec.accounts, spec.regions)
    world.furnish()
    dispatcher, gateway = Dispatcher(world), Gateway(world)
    fleet = Fleet(world, dispatcher)
    application = web.Application(client_max_size=_LARGEST_BODY)
    metadata.add_routes(application, world)
    gateway.add_routes(application)
    application.router.add_route("*", "/{path:.*}", dispatcher.handle)
    # auto_decompress would break signatures, which cover the body as it came.
    runner = web.AppRunner(application, access_log=None, auto_decompress=False, shutdown_timeout=0.5, handle_signals=False)
    control = web.AppRunner(ControlApi(world, fleet, stop).application(), access_log=None, shutdown_timeout=0.5)
    try:
        world.endpoints = await _listen(folder, runner, spec)
        await control.setup()
        await web.UnixSite(control, str(folder / "control.sock")).start()
        (folder / "control.sock").chmod(0o600)
        await fleet.open()
        known = describe(world, os.getpid())
        _write(folder / "lab.json", json.dumps(known, indent=2))
        report({"event": "listening", **known})
        await _until(stop, fleet.add(spec.nodes, lambda node: report(_node_event(node))))
        if not stop.is_set():
            report({"event": "ready"})
            await stop.wait()
    except Exception as problem:
        _log.exception("the lab failed")
        report({"event": "failed", "error": str(problem) or repr(problem)})
        raise
    finally:
        await fleet.close()
        await world.sessions.close()
        world.run_command.close()
        world.events.close()
        world.functions.close()
        await control.cleanup()
        await runner.cleanup()
        world.moto.close()
        world.log.close()
        (folder / "lab.json").unlink(missing_ok=True)
        report({"event": "stopped"})


async def _listen(folder: Path, runner: web.AppRunner, spec: LabSpec) -> Endpoints:
    certificates = create_certificates(folder / "tls", spec.regions)
    await runner.setup()
    plain, secure = _free_socket(), _free_socket()
    await web.SockSite(runner, plain).start()
    await web.SockSite(runner, secure, ssl_context=certificates.server_context()).start()
    return Endpoints(
        api_url=f"http://127.0.0.1:{plain.getsockname()[1]}",
        agent_https_url=f"https://127.0.0.1:{secure.getsockname()[1]}",
        ca_path=certificates.ca_path,
    )


async def _until(stop: asyncio.Event, work: Any) -> None:
    """Do some work unless the lab is told to stop meanwhile."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    done, _unused = await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if task in done:
        task.result()
    else:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _free_socket() -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    listening.listen(512)
    return listening


def _on_stdin(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


def _node_event(node: ManagedNode) -> dict[str, Any]:
    return {
        "event": "node",
        "name": node.spec.name,
        "node_id": node.node_id,
        "account": node.spec.account,
        "region": node.spec.region,
        "kind": node.spec.kind,
        "connected": node.connected,
    }


def _write(path: Path, text: str) -> None:
    """Whole or not at all, readable by the owner only: keys stand in it."""
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1_048_576), hard))


def remove_folder(folder: Path) -> None:
    """Delete a lab's folder; what belongs to a mount that a node left is not followed."""
    remove_tree(folder)
