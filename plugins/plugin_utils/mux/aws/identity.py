# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who calls AWS: from what a worker sent to credentials that renew themselves, and to clients.

Many live side by side in one mux, over one loader of service models, so an identity costs little memory.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import functools
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ....module_utils.network import Network
from ....module_utils.pace import Pace
from .. import errors
from ..errors import ServiceFault
from ..session.documents import Memory
from . import helper
from .base_credentials import SERVICES, base_credentials
from .identity_key import IdentityKey
from .lookups import Lookups
from .service_models import shared_loader
from .signature import websocket_headers

if TYPE_CHECKING:
    import botocore.credentials
    import botocore.session

_NEVER = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC).isoformat()
_THREADS = 8
_EC2_WITHIN = 9.0
_API_TIMEOUT = {"connect_timeout": 2, "read_timeout": 6}
"""Seconds. An endpoint that cannot be reached must be found out, and said, within ten."""

Used = TypeVar("Used")

Answer = asyncio.Future[dict[str, Any]]
"""What AWS is about to answer."""

threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="api")


@dataclass(frozen=True)
class Settings:
    """What a key was resolved to, beside credentials."""

    region: str | None
    endpoints: Mapping[str, str | None]
    use_fips: bool
    use_dualstack: bool
    network: Network

    def address(self, service: str) -> str:
        """The URL by which the way to a service (a proxy or none) is chosen; only its host and scheme matter."""
        return self.endpoints.get(service) or f"https://{service}.{self.region}.amazonaws.com"


class Identity:
    """One identity: its credentials, its clients, and how fast it may call."""

    def __init__(self, key: IdentityKey, paces: dict[tuple[str, str, str], Pace]) -> None:
        self.key = key
        self.environment = dict(key.environment)
        self._paces = paces
        self._lock = threading.RLock()  # held for as long as a lookup takes, so by threads only
        self._lookup: asyncio.Future[Settings] | None = None
        self._generation = 0
        self._base: dict[str, Any] | None = None
        self._settings: Settings | None = None
        self._clients: dict[tuple[str, str | None], Any] = {}
        self._credentials: botocore.credentials.Credentials | None = None
        self.calls: dict[str, int] = {}
        self.connected_at = float("-inf")
        """When a data channel was opened last, on the event loop's clock: StartSession and the way to the service worked then."""
        self.opening_took = 0.0
        """Seconds that the node which was opened last took, from its session's first step to its runner's being ready."""
        self.documents = Memory()
        self.lookups = Lookups(self)

    @property
    def label(self) -> str:
        """How a message names it."""
        return self.key.label

    @property
    def region(self) -> str | None:
        """The region, once settings are known."""
        return self._settings.region if self._settings else self.key.region

    @property
    def known_settings(self) -> Settings:
        """The settings, after :meth:`settings` was awaited once."""
        if self._settings is None:
            raise AssertionError
        return self._settings

    # Calls

    async def call(
        self,
        service: str,
        operation: str,
        *,
        deadline: float,
        resource: str,
        late: Callable[[Answer], None] | None = None,
        waited: Callable[[float], None] | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """Call AWS in a thread, at the pace that the action allows; throttling is waited out until the deadline.

        :param operation: as botocore's method, ``start_session``.
        :param deadline: of the event loop's clock, in seconds.
        :param waited: told of the seconds that throttling cost, as soon as they are over.
        :param late: gets what is to come, if the caller is cancelled while AWS works: what the call makes there can be undone.
        :raises botocore.exceptions.ClientError: refused for another reason; also botocore's other errors.
        :raises TurnTooLate: throttled, and its turn would come after the deadline.
        """
        loop = asyncio.get_running_loop()
        action = operation.title().replace("_", "")
        renewed = False
        pace = slowed = self._pace(service, action)  # it is assuming the role that was throttled, sometimes
        while True:
            if self._credentials is None:
                await self.settings()
            wait = slowed.reserve(loop.time(), deadline)
            if wait is None:
                raise errors.TurnTooLate
            if wait:
                await asyncio.sleep(wait)
            self.calls[action] = self.calls.get(action, 0) + 1
            sent = loop.time()
            if waited is not None:
                waited(wait)
            try:
                answer = await self._in_thread(functools.partial(self._call, service, operation, parameters), late)
            except Exception as error:
                if errors.is_throttling(error):
                    slowed = self._pace("sts", "AssumeRole") if isinstance(error, ServiceFault) else pace
                    slowed.throttle(loop.time(), sent)
                    if waited is not None:
                        waited(loop.time() - sent)
                    if loop.time() < deadline:
                        continue
                if not renewed and _may_be_outdated(error):
                    renewed = True
                    continue
                raise
            pace.succeeded()
            if slowed is not pace:
                slowed.succeeded()
            return answer

    @staticmethod
    async def _in_thread(work: Callable[[], dict[str, Any]], late: Callable[[Answer], None] | None) -> dict[str, Any]:
        """A thread cannot be cancelled: it is left alone, or does not begin."""
        running = threads.submit(work)
        try:
            return await asyncio.shield(asyncio.wrap_future(running))
        except asyncio.CancelledError:
            if not running.cancel() and late is not None:
                late(asyncio.wrap_future(running))
            raise

    def explain(self, error: BaseException, action: str, resource: str) -> str:
        """A sentence about an error of a call of this identity."""
        return errors.explain(error, action=action, resource=resource, who=self.label, region=self.region)

    async def settings(self) -> Settings:
        """Region, endpoints and trust of this identity."""
        if self._lookup is None:  # one for all who wait, as it may take long and there are few threads
            self._lookup = asyncio.get_running_loop().run_in_executor(threads, self._resolve)
            self._lookup.add_done_callback(self._looked_up)
        return await asyncio.shield(self._lookup)

    def _looked_up(self, lookup: asyncio.Future[Settings]) -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # seen, even if nobody waits any more

    async def sign(self, url: str) -> dict[str, str]:
        """The headers of a signed request for a data channel's websocket, by credentials that are valid now."""
        if self._credentials is None:
            await self.settings()
        return await asyncio.get_running_loop().run_in_executor(threads, self._sign, url)

    async def instances(self, parameters: Mapping[str, Any], *, within: float = _EC2_WITHIN) -> list[dict[str, Any]]:
        """EC2's DescribeInstances, in a process of its own; see :mod:`.helper_program` for the shape.

        :param within: seconds after which the process is ended.
        :raises AwsHelperError: refused, or no answer.
        """
        self.calls["DescribeInstances"] = self.calls.get("DescribeInstances", 0) + 1
        return await asyncio.get_running_loop().run_in_executor(threads, self._instances, dict(parameters), within)

    async def use(self, service: str, region: str | None, name: str, work: Callable[[Any], Used]) -> Used:
        """Do something with a client in a thread: for what is no single call, such as a presigned URL or a body that is read.

        :param region: of the client; `None`: the identity's own.
        :param name: under which it is counted.
        :raises botocore.exceptions.ClientError: and botocore's other errors.
        """
        if self._credentials is None:
            await self.settings()
        self.calls[name] = self.calls.get(name, 0) + 1
        return await asyncio.get_running_loop().run_in_executor(threads, self._use, service, region, work)

    # In threads

    def _use(self, service: str, region: str | None, work: Callable[[Any], Used]) -> Used:
        for attempt in range(2):
            with self._lock:
                client, generation = self._client(service, region), self._generation
            try:
                return work(client)
            except Exception as error:
                if not _may_be_outdated(error):
                    raise
                self._forget_credentials(generation)
                if attempt:
                    raise
        raise AssertionError

    def _call(self, service: str, operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            client, generation = self._client(service), self._generation
        try:
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
        except Exception as error:
            if _may_be_outdated(error):
                self._forget_credentials(generation)
            raise
        return answer

    def _forget_credentials(self, generation: int) -> None:
        """Resolve everything again at the next call, unless that was done since; until then the settings are those that were known."""
        with self._lock:
            if generation == self._generation:
                self._generation += 1
                self._base = None
                self._credentials = None
                self._clients.clear()

    def _sign(self, url: str) -> dict[str, str]:
        with self._lock:
            region = self._client("ssm").meta.region_name  # names such as fips-us-east-1 mean another one
            credentials = self._credentials
        if credentials is None:
            raise AssertionError
        return websocket_headers(url, credentials.get_frozen_credentials(), region)

    def _pace(self, service: str, action: str) -> Pace:
        # The account is not known without a call; a role's ARN names it, else the key stands for it.
        arn = self.key.role_arn
        account = arn.split(":")[4] if arn and arn.count(":") >= 5 else self.label
        return self._paces.setdefault((f"{service}:{action}", account, self.region or ""), Pace())

    def _client(self, service: str, region: str | None = None) -> Any:
        with self._lock:
            settings = self._resolve()
            client = self._clients.get((service, region))
            if client is None:
                client = self._clients[service, region] = self._make_client(service, settings, self._credentials, region)
            return client

    def _make_client(self, service: str, settings: Settings, credentials: Any, region: str | None = None) -> Any:
        """A client, and the way to the endpoint that it has in its partition and variant: known only once it is made."""
        proxies: dict[str, str] = {}
        while True:
            client = self._session(credentials).create_client(
                service,
                region_name=region or settings.region,
                endpoint_url=settings.endpoints.get(service),
                verify=settings.network.verify,
                config=self._config(settings, proxies, **self._particular(service)),
            )
            wanted = settings.network.botocore_proxies(client.meta.endpoint_url)
            if wanted == proxies:
                return client
            proxies = wanted

    def _resolve(self) -> Settings:
        with self._lock:
            if self._settings is not None and self._credentials is not None:
                return self._settings
            base = self._base = base_credentials(self.key)
            found = base["Settings"]
            of_options = dict(self.key.endpoints)
            network = Network.choose(proxy=self.key.proxy, ca_bundle=self.key.ca_bundle or found.get("ca_bundle"), environ=self.environment)
            if isinstance(network.verify, str):
                network.tls()  # botocore would not name a file that holds no certificates
            self._settings = Settings(
                region=self.key.region or found.get("region"),
                endpoints={name: of_options.get(name) or (found.get("endpoints") or {}).get(name) for name in SERVICES},
                use_fips=bool(found.get("use_fips") if self.key.use_fips is None else self.key.use_fips),
                use_dualstack=bool(found.get("use_dualstack") if self.key.use_dualstack is None else self.key.use_dualstack),
                network=network,
            )
            refresh = functools.partial(self._assume_role, self._settings) if self.key.role_arn else self._renew_base
            import botocore.credentials

            self._credentials = botocore.credentials.DeferredRefreshableCredentials(refresh, "fleet-ssm")
            return self._settings

    def _renew_base(self) -> dict[str, str | None]:
        base, self._base = self._base or base_credentials(self.key), None  # what was just resolved is used once
        return _metadata(base["AccessKeyId"], base["SecretAccessKey"], base.get("SessionToken"), base.get("Expiration"))

    def _assume_role(self, settings: Settings) -> dict[str, str | None]:
        import botocore.credentials

        if self.key.role_arn is None:
            raise AssertionError
        base = self._renew_base()
        client = self._make_client("sts", settings, botocore.credentials.Credentials(base["access_key"], base["secret_key"], base["token"]))
        parameters = {"RoleArn": self.key.role_arn, "RoleSessionName": self.key.role_session_name or _session_name(self.environment)}
        if self.key.external_id:
            parameters["ExternalId"] = self.key.external_id
        self.calls["AssumeRole"] = self.calls.get("AssumeRole", 0) + 1
        try:
            got = client.assume_role(**parameters)["Credentials"]
        except Exception as error:
            base_label = dataclasses.replace(self.key, role_arn=None).label
            text = errors.explain(error, action="sts:AssumeRole", resource=self.key.role_arn, who=base_label, region=settings.region)
            if errors.is_throttling(error) or errors.is_transient(error):
                raise ServiceFault(text, error) from error
            raise helper.CredentialsError(text) from error
        expiration = got["Expiration"]
        return _metadata(
            got["AccessKeyId"], got["SecretAccessKey"], got["SessionToken"],
            expiration.isoformat() if isinstance(expiration, datetime.datetime) else str(expiration),
        )  # fmt: skip

    def _instances(self, parameters: dict[str, Any], within: float) -> list[dict[str, Any]]:
        with self._lock:
            settings, credentials = self._resolve(), self._credentials
        if credentials is None:
            raise AssertionError
        frozen = credentials.get_frozen_credentials()
        environment = {name: value for name, value in self.environment.items() if not name.startswith("AWS_")}
        environment.update(
            {
                "AWS_ACCESS_KEY_ID": frozen.access_key,
                "AWS_SECRET_ACCESS_KEY": frozen.secret_key,
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            }
        )
        if frozen.token:
            environment["AWS_SESSION_TOKEN"] = frozen.token
        config = {
            **_API_TIMEOUT,
            "proxies": settings.network.botocore_proxies(settings.address("ec2")),
            "use_fips_endpoint": settings.use_fips,
            "use_dualstack_endpoint": settings.use_dualstack,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        }
        client = {"region_name": settings.region, "endpoint_url": settings.endpoints.get("ec2"), "verify": settings.network.verify}
        question = {"action": "instances", "parameters": parameters, "config": config, "client": client}
        found: list[dict[str, Any]] = helper.ask(question, environment, "", timeout=within)["instances"]
        return found

    def _session(self, credentials: Any) -> botocore.session.Session:
        import botocore.session

        session = botocore.session.Session()
        session.register_component("data_loader", shared_loader())
        session.register_component("credential_provider", _Fixed(credentials))
        return session

    def _particular(self, service: str) -> dict[str, Any]:
        """What a service's client has that others have not."""
        if service == "s3":  # URLs presigned in the older way work in few regions, and never with KMS
            return {"signature_version": "s3v4", "s3": {"addressing_style": self.key.s3_addressing_style}, "read_timeout": 60}
        return {"read_timeout": 30} if service == "sqs" else {}

    def _config(self, settings: Settings, proxies: Mapping[str, str], **more: Any) -> Any:
        from botocore.config import Config

        return Config(
            retries={"total_max_attempts": 1, "mode": "standard"},  # repeats are decided here, by what a call means
            proxies=dict(proxies),
            use_fips_endpoint=settings.use_fips,
            use_dualstack_endpoint=settings.use_dualstack,
            max_pool_connections=_THREADS,
            tcp_keepalive=True,
            user_agent_extra="fleet.ssm/ssm",  # as modules name themselves
            **{**_API_TIMEOUT, **more},
        )


class _Fixed:
    """A credential provider for a botocore session that has just one."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        return self._credentials


def _may_be_outdated(error: BaseException) -> bool:
    """Whether the credentials may be better ones when they are looked up again: perhaps someone logged in meanwhile."""
    return errors.is_expired(error) or errors.error_code(error) in errors.UNKNOWN_KEY_CODES


def _metadata(access_key: str, secret_key: str, token: str | None, expiry: str | None) -> dict[str, str | None]:
    return {"access_key": access_key, "secret_key": secret_key, "token": token, "expiry_time": expiry or _NEVER}


def _session_name(environment: Mapping[str, str]) -> str:
    user = environment.get("USER") or environment.get("LOGNAME") or "ansible"
    allowed = "".join(sign if sign.isalnum() or sign in "_+=,.@-" else "-" for sign in user)
    return f"fleet-ssm-{allowed}"[:64]
