# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A metadata service at an address of its own.

Real agents drop the path of `AWS_EC2_METADATA_SERVICE_ENDPOINT`, which is how the lab's service tells nodes apart. So
each of them gets a port, from which requests are passed on with that path in front.
"""

from __future__ import annotations

import aiohttp
from aiohttp import web

_PASSED_ON = ("X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds")


class MetadataAddress:
    """Passes requests on to `base` while started."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Begin, unless it has begun: the address stays the same until `stop`."""
        if self._runner is not None:
            return
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._client = aiohttp.ClientSession(auto_decompress=False)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            await self._client.close()
            self._runner = None
            self.url = ""

    async def _pass_on(self, request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        async with self._client.request(request.method, self._base + request.path_qs, headers=headers) as answer:
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower().startswith("x-aws-ec2") or name == "Content-Type"
            }
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)
