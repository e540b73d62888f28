# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting the agent: as a program of its own, or in a process that has loaded everything before."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import logging
import socket
import ssl

from .config import AgentConfig
from .control import Agent

#: What is imported late otherwise: a process node has no access to these files once it is in its own root.
_LATE = (
    "cryptography.hazmat.primitives.asymmetric.padding",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.ciphers.aead",
    "cryptography.hazmat.primitives.serialization",
    "encodings.idna",
    "websockets.speedups",
)


def new_context(ca_path: str) -> ssl.SSLContext:
    """A TLS context that trusts the lab's CA, and the node's own."""
    context = ssl.create_default_context()
    if ca_path:
        context.load_verify_locations(ca_path)
    return context


def preload() -> None:
    """Load what would be loaded late, and keep it out of the garbage collector's way: forks share its memory."""
    for name in _LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(OSError):
        socket.getaddrinfo("localhost", 443)  # loads the resolver's own libraries
    gc.collect()
    gc.freeze()


def run_agent(config: AgentConfig, context: ssl.SSLContext) -> None:
    """Until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s: %(message)s", force=True)
    logging.info("agent of %s starts", config.node_id)
    asyncio.run(Agent(config, context).run())
