# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""botocore clients for many accounts and regions, made cheaply.

amazon.aws makes one boto3 session a client, which is right for one client and costs 8 MB and a model's parse for each of
hundreds. Here one session serves a base identity, all share one loader, and what that loads is cut down to what is asked for: making a
client and parsing an answer cost as much as there is in the model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .accounts import ALL_REGIONS, INVENTORY_FILE, Account, BaseIdentity
from .network import Network
from .pages import read_information, read_instances
from .problems import CollectError, explain
from .service_models import lean_loader

if TYPE_CHECKING:
    from botocore.loaders import Loader

try:
    import botocore.config
    import botocore.exceptions
    import botocore.session
except ImportError:  # the plugin that needs this says so with a remedy
    pass

_OPERATIONS: Mapping[str, frozenset[str]] = {
    "ec2": frozenset(
        {
            "AssociateIamInstanceProfile", "DescribeIamInstanceProfileAssociations", "DescribeInstanceStatus", "DescribeInstances", "DescribeNetworkInterfaces",
            "DescribeRegions", "DescribeRouteTables", "DescribeSecurityGroupRules", "DescribeSubnets", "DescribeVpcAttribute", "DescribeVpcEndpoints",
            "DisassociateIamInstanceProfile", "GetConsoleOutput", "ReplaceIamInstanceProfileAssociation", "RevokeSecurityGroupIngress",
        }
    ),
    "iam": frozenset(
        {
            "AddRoleToInstanceProfile", "AttachRolePolicy", "CreateInstanceProfile", "CreateRole", "DeleteInstanceProfile", "DeleteRole", "DeleteRolePolicy",
            "DetachRolePolicy", "GetInstanceProfile", "GetPolicy", "GetPolicyVersion", "GetRole", "GetRolePolicy", "ListAttachedRolePolicies",
            "ListInstanceProfilesForRole", "ListRolePolicies", "PutRolePermissionsBoundary", "PutRolePolicy", "RemoveRoleFromInstanceProfile",
            "SimulatePrincipalPolicy", "TagInstanceProfile", "TagRole", "UpdateAssumeRolePolicy",
        }
    ),
    "ssm": frozenset(
        {
            "AddTagsToResource", "CancelCommand", "CreateActivation", "CreateDocument", "DeleteActivation", "DeleteDocument", "DeleteParameter",
            "DeregisterManagedInstance", "DescribeActivations", "DescribeDocument", "DescribeDocumentPermission", "DescribeInstanceInformation",
            "DescribeParameters", "GetCommandInvocation", "GetConnectionStatus", "GetDocument", "GetServiceSetting", "ListCommandInvocations", "ListCommands",
            "ListDocumentVersions", "ListTagsForResource", "ModifyDocumentPermission", "PutParameter", "RemoveTagsFromResource", "ResetServiceSetting",
            "SendCommand", "UpdateDocument", "UpdateDocumentDefaultVersion", "UpdateServiceSetting",
        }
    ),
    "resourcegroupstaggingapi": frozenset({"GetResources"}),
}
#: Members of the services' shapes that `nodes.join` reads.
_MEMBERS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "ec2": {
        "Reservation": frozenset({"OwnerId", "Instances"}),
        "Instance": frozenset(
            {
                "InstanceId", "ImageId", "State", "PrivateDnsName", "PublicDnsName", "InstanceType", "LaunchTime", "Placement", "SubnetId",
                "VpcId", "PrivateIpAddress", "PublicIpAddress", "Architecture", "IamInstanceProfile", "SecurityGroups", "Tags", "Platform",
                "KeyName",
            }
        ),
        "Placement": frozenset({"AvailabilityZone"}),
        "InstanceState": frozenset({"Name"}),
        "IamInstanceProfile": frozenset({"Arn"}),
        "GroupIdentifier": frozenset({"GroupId"}),
    },
    "ssm": {
        "InstanceInformation": frozenset(
            {
                "InstanceId", "PingStatus", "LastPingDateTime", "AgentVersion", "IsLatestVersion", "PlatformType", "PlatformName",
                "PlatformVersion", "ActivationId", "IamRole", "RegistrationDate", "IPAddress", "ComputerName",
            }
        ),
    },
}  # fmt: skip
#: Partition by partition, a region that every account has, to ask which others are enabled.
_HOME_REGIONS = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}

#: Seconds to connect, and to wait for an answer. A page of 1,000 instances takes some.
_TIMEOUTS = {"connect_timeout": 4, "read_timeout": 30}
#: How often a connection that fails is tried, in how many seconds after its first failure; and how often one that times out.
_CONNECT_ATTEMPTS = 4
_CONNECT_PATIENCE = 3.0
_TIMEOUT_ATTEMPTS = 2


class _Sessions:
    """The two botocore sessions of one base identity, and its lock: one may be used by one thread at a time, its clients by all.

    The lock is this identity's own, since resolving credentials may take seconds (`credential_process`, SSO).
    """

    def __init__(self, identity: BaseIdentity, loader: Loader, config: botocore.config.Config, data_config: botocore.config.Config) -> None:
        self._lock = threading.RLock()
        #: Resolves credentials, and calls STS: an ordinary session, since credential providers expect real timestamps.
        self.credentials = self._session(identity, config)
        if identity.access_key:
            self.credentials.set_credentials(identity.access_key, identity.secret_key, identity.session_token)
        self.data = self._session(identity, data_config)
        self.data.register_component("data_loader", loader)
        self.data.register("before-parse.ec2.DescribeInstances", read_instances)
        self.data.register("before-parse.ssm.DescribeInstanceInformation", read_information)
        # Times go into host variables as text; making datetime objects of them is a third of the parse.
        self.data.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=lambda value: value)

    def keys(self) -> dict[str, Any]:
        """The identity's keys, as botocore finds them. Raises whatever a provider of credentials raises."""
        with self._lock:
            credentials = self.credentials.get_credentials()
            if credentials is None:
                raise botocore.exceptions.NoCredentialsError()
            keys: dict[str, Any] = credentials.get_frozen_credentials()._asdict()
            return keys

    def region(self) -> str | None:
        """The region of environment or profile."""
        with self._lock:
            region: str | None = self.credentials.get_config_variable("region")
            return region

    def partition(self, region: str) -> str | None:
        """The part of AWS that a region belongs to; None for a name that is like none of any."""
        with self._lock, suppress(botocore.exceptions.UnknownRegionError):
            name: str = self.credentials.get_partition_for_region(region)
            return name
        return None

    def client(self, session: botocore.session.Session, network: Network, service: str, region: str, endpoint_url: str | None, **keys: Any) -> Any:
        """A client, and the way to the endpoint that it has in its partition and variant: surely known only once it is made."""
        proxies = {} if endpoint_url else network.botocore_proxies(f"https://{service}.{region}.amazonaws.com")
        with self._lock:
            while True:
                config = botocore.config.Config(proxies=proxies)
                client = session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=config, **keys)
                wanted = network.botocore_proxies(client.meta.endpoint_url)
                if wanted == proxies:
                    return client
                proxies = wanted

    @staticmethod
    def _session(identity: BaseIdentity, config: botocore.config.Config) -> botocore.session.Session:
        session = botocore.session.Session(profile=identity.profile)
        session.set_default_client_config(config)  # for the clients that providers of credentials make, too
        session.register("needs-retry", _give_up_connecting)
        return session


def _give_up_connecting(request_dict: dict[str, Any], caught_exception: Exception | None = None, **_unused: Any) -> None:
    """End the attempts of a call whose endpoint cannot be reached; a handler of botocore's event `needs-retry`.

    The many attempts that throttling deserves would keep an inventory waiting for minutes where a region is unreachable,
    or its name misspelt.
    """
    failures: list[float] = request_dict["context"].setdefault("fleet_ssm_connection_failures", [])
    if not isinstance(caught_exception, (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)):
        failures.clear()  # an answer, if only that the call is throttled
        return
    failures.append(time.monotonic())
    timed_out = isinstance(caught_exception, (botocore.exceptions.ConnectTimeoutError, botocore.exceptions.ReadTimeoutError))
    if len(failures) >= (_TIMEOUT_ATTEMPTS if timed_out else _CONNECT_ATTEMPTS) or failures[-1] - failures[0] > _CONNECT_PATIENCE:
        raise caught_exception


def home_region(account: Account, default: str | None, partition_of: Callable[[str], str | None]) -> str:
    """The region to ask what all regions of an account share: the default one, unless that is of another partition than the account."""
    own = account.partition or next((partition_of(region) for region in account.regions if region != ALL_REGIONS), None)
    if default and (own is None or partition_of(default) == own):
        return default
    return _HOME_REGIONS.get(own or "aws") or default or _HOME_REGIONS["aws"]


class AccountClients:
    """Clients of one account, whose credentials are resolved (and role assumed) when this is made.

    :raises CollectError: if they cannot be.
    """

    def __init__(self, pool: ClientPool, account: Account) -> None:
        self.account = account
        self._pool = pool
        self._account_id = account.account_id
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._clients: dict[tuple[str, str], Any] = {}
        self._at_home: dict[str, Any] = {}  # clients of services that all regions share
        with self._explained("credentials"):
            self._sessions = pool.sessions(account.base)
            self._keys = self._assume_role() if account.role_arn else self._sessions.keys()

    def regions(self) -> list[str]:
        """The regions to ask: the account's own, or the default one, or all that are enabled.

        :raises CollectError: if none is known or they cannot be listed.
        """
        if self.account.regions == ("all",):
            with self._explained("ec2:DescribeRegions"):
                answer = self._data_client("ec2", self._home_region()).describe_regions()
            return sorted(region["RegionName"] for region in answer["Regions"])
        if self.account.regions:
            return list(self.account.regions)
        with self._explained("regions"):
            region = self._default_region()
        if region:
            return [region]
        raise CollectError(
            self.account, None, "regions", "no region is known.", "Set 'regions' to a list of names or to 'all', or AWS_REGION, or a region in the profile."
        )

    def account_id(self) -> str:
        """The account's number, by one call unless the role's ARN tells it. :raises CollectError: if it cannot be had."""
        with self._asking:
            if self._account_id is None:
                self._account_id = str(self.call_home("sts", "GetCallerIdentity")["Account"])
            return self._account_id

    def call_home(self, service: str, operation: str, **parameters: Any) -> Any:
        """One call to a service that all regions share. It is repeated where it is throttled, whatever the pool does with others.

        :raises CollectError: that names the action.
        """
        with self._explained(f"{service}:{operation}"):
            with self._lock:
                if service not in self._at_home:
                    self._at_home[service] = self._make(self._sessions.credentials, service, self._home_region(), self._keys)
                client = self._at_home[service]
            return getattr(client, botocore.xform_name(operation))(**parameters)

    def call(self, service: str, operation: str, *, region: str, **parameters: Any) -> Any:
        """One API call in one region. :raises CollectError: that names the action."""
        prefix = {"resourcegroupstaggingapi": "tag"}.get(service, service)
        with self._explained(f"{prefix}:{operation}", region):
            return getattr(self._data_client(service, region), botocore.xform_name(operation))(**parameters)

    def client(self, service: str, region: str) -> Any:
        """The botocore client itself, for those who judge its errors themselves. It has the pool's retries."""
        return self._data_client(service, region)

    def renew(self, stale: Any) -> None:
        """Resolve the credentials anew, since AWS says that those of a client have expired. :raises CollectError: if they cannot be had.

        :param stale: that client; if another thread has renewed it already, nothing is done.
        """
        with self._renewing:
            with self._lock:
                if stale not in self._clients.values():
                    return
            with self._explained("credentials"):
                keys = self._assume_role() if self.account.role_arn else self._sessions.keys()
            with self._lock:
                self._keys = keys
                self._clients.clear()
                self._at_home.clear()

    def explain(self, region: str, action: str, error: Exception) -> CollectError:
        """What an error of such a client means here."""
        return explain(self.account, region, action, error, self._pool.source)

    @contextmanager
    def _explained(self, action: str, region: str | None = None) -> Iterator[None]:
        """Say of this account and action what goes wrong within.

        All of it, and not botocore's errors alone: profiles name programs and files of other people's, whose failures come as
        whatever they are (JSONDecodeError, FileNotFoundError, ValueError), and no account may take the others with it.
        """
        try:
            yield
        except CollectError:
            raise
        except Exception as error:
            raise explain(self.account, region, action, error, self._pool.source) from error

    def _assume_role(self) -> dict[str, str]:
        sts = self._make(self._sessions.credentials, "sts", self._home_region(), self._sessions.keys())
        parameters = {"RoleArn": self.account.role_arn, "RoleSessionName": self.account.role_session_name}
        if self.account.external_id:
            parameters["ExternalId"] = self.account.external_id
        with self._explained("sts:AssumeRole"):
            keys = sts.assume_role(**parameters)["Credentials"]
        return {"access_key": keys["AccessKeyId"], "secret_key": keys["SecretAccessKey"], "token": keys["SessionToken"]}

    def _default_region(self) -> str | None:
        return self._pool.region or self._sessions.region()

    def _home_region(self) -> str:
        return home_region(self.account, self._default_region(), self._sessions.partition)

    def _data_client(self, service: str, region: str) -> Any:
        """The client of a service in a region, made at its first use and then cheap."""
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._make(self._sessions.data, service, region, self._keys)
            return self._clients[service, region]

    def _make(self, session: botocore.session.Session, service: str, region: str, keys: Mapping[str, Any]) -> Any:
        return self._sessions.client(
            session,
            self._pool.network,
            service,
            region,
            self._pool.endpoint_url,
            aws_access_key_id=keys.get("access_key"),
            aws_secret_access_key=keys.get("secret_key"),
            aws_session_token=keys.get("token"),
        )


class ClientPool:
    """What all accounts share: model loader, configuration, a session for each identity.

    :param region: the region of accounts that name none; else the environment and the profile are asked.
    :param endpoint_url: of every service, instead of AWS's own endpoints.
    :param network: the way to endpoints.
    :param connections: concurrent connections a client may have.
    :param source: where the accounts are written, for messages.
    :param name: of the plugin or module, for the audit trail.
    :param retries: whether botocore repeats calls (more and more slowly if they are throttled). Without, every answer is the caller's to judge.
    :param config: further settings of botocore.
    :param details: members of EC2's instances to read beyond those that make a node.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        network: Network | None = None,
        connections: int = 10,
        source: str = INVENTORY_FILE,
        name: str = "managed_nodes",
        retries: bool = True,
        config: Mapping[str, Any] | None = None,
        details: frozenset[str] = frozenset(),
    ) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self.network = network or Network()
        self._lock = threading.Lock()
        self.source = source
        self._config = botocore.config.Config(
            **{
                **_TIMEOUTS,
                "retries": {"mode": "adaptive", "max_attempts": 10},  # slows down on throttling instead of failing
                "max_pool_connections": connections,
                "user_agent_extra": f"fleet.ssm/{name}",
                **(config or {}),
            }
        )
        self._data_config = self._config if retries else self._config.merge(botocore.config.Config(retries={"total_max_attempts": 1, "mode": "standard"}))
        ec2 = {**_MEMBERS["ec2"], "Instance": _MEMBERS["ec2"]["Instance"] | details}
        self._loader = lean_loader(_OPERATIONS, {**_MEMBERS, "ec2": ec2})
        self._sessions: dict[BaseIdentity, _Sessions] = {}

    def sessions(self, identity: BaseIdentity) -> _Sessions:
        with self._lock:
            if identity not in self._sessions:
                self._sessions[identity] = _Sessions(identity, self._loader, self._config, self._data_config)
            return self._sessions[identity]
