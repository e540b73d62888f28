# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""botocore clients for many accounts and regions, made cheaply.

amazon.aws makes one boto3 session a client, which is right for one client and costs 8 MB and a model's parse for each of
hundreds. Here one session serves a base identity, all share one loader, and what that loads is cut down to what is asked for:
parsing DescribeInstances is most of an inventory's time, and it costs as much as there are members in the model.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from .accounts import Account, BaseIdentity
from .problems import CollectError, explain

try:
    import botocore.config
    import botocore.exceptions
    import botocore.session
    from botocore.loaders import Loader
except ImportError:  # the plugin that needs this says so with a remedy
    Loader = object

_OPERATIONS: Mapping[str, frozenset[str]] = {
    "ec2": frozenset({"DescribeInstances", "DescribeRegions"}),
    "ssm": frozenset({"DescribeInstanceInformation", "ListTagsForResource"}),
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


class _LeanLoader(Loader):  # type: ignore[misc]
    """Loads service models without the operations and members that an inventory never reads."""

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        operations = _OPERATIONS.get(service_name)
        if type_name != "service-2" or operations is None:
            return model
        shapes = dict(model["shapes"])
        for name, members in _MEMBERS.get(service_name, {}).items():
            shape = shapes[name]
            shapes[name] = {**shape, "members": {key: value for key, value in shape["members"].items() if key in members}}
        return {**model, "operations": {name: model["operations"][name] for name in operations}, "shapes": shapes}


class _Sessions:
    """The two botocore sessions of one base identity."""

    def __init__(self, identity: BaseIdentity, loader: _LeanLoader) -> None:
        #: Resolves credentials, and calls STS: an ordinary session, since credential providers expect real timestamps.
        self.credentials = botocore.session.Session(profile=identity.profile)
        if identity.access_key:
            self.credentials.set_credentials(identity.access_key, identity.secret_key, identity.session_token)
        self.data = botocore.session.Session(profile=identity.profile)
        self.data.register_component("data_loader", loader)
        # Times go into host variables as text; making datetime objects of them is a third of the parse.
        self.data.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=lambda value: value)


class AccountClients:
    """Clients of one account, whose credentials are resolved (and role assumed) when this is made.

    :raises CollectError: if they cannot be.
    """

    def __init__(self, pool: ClientPool, account: Account) -> None:
        self.account = account
        self._pool = pool
        self._account_id = account.account_id
        self._clients: dict[tuple[str, str], Any] = {}
        try:
            self._sessions = pool.sessions(account.base)
            if account.role_arn:
                self._keys = self._assume_role()
            else:
                with pool.lock:
                    credentials = self._sessions.credentials.get_credentials()
                if credentials is None:
                    raise botocore.exceptions.NoCredentialsError()
                self._keys = credentials.get_frozen_credentials()._asdict()
        except botocore.exceptions.BotoCoreError as error:
            raise explain(account, None, "credentials", error) from error

    def regions(self) -> list[str]:
        """The regions to ask: the account's own, or the default one, or all that are enabled.

        :raises CollectError: if none is known or they cannot be listed.
        """
        if self.account.regions == ("all",):
            answer = self._call(self._data_client("ec2", self._home_region()), "ec2:DescribeRegions", None, {})
            return sorted(region["RegionName"] for region in answer["Regions"])
        if self.account.regions:
            return list(self.account.regions)
        region = self._default_region()
        if region:
            return [region]
        raise CollectError(
            self.account, None, "regions", "no region is known.", "Set 'regions' to a list of names or to 'all', or AWS_REGION, or a region in the profile."
        )

    def account_id(self) -> str:
        """The account's number, by one call unless the role's ARN tells it."""
        if self._account_id is None:
            sts = self._make(self._sessions.credentials, "sts", self._home_region(), self._keys)
            self._account_id = str(self._call(sts, "sts:GetCallerIdentity", None, {})["Account"])
        return self._account_id

    def call(self, service: str, operation: str, *, region: str, **parameters: Any) -> Any:
        """One API call in one region. :raises CollectError: that names the action."""
        prefix = {"resourcegroupstaggingapi": "tag"}.get(service, service)
        return self._call(self._data_client(service, region), f"{prefix}:{operation}", region, parameters)

    def _call(self, client: Any, action: str, region: str | None, parameters: Mapping[str, Any]) -> Any:
        try:
            return getattr(client, botocore.xform_name(action.partition(":")[2]))(**parameters)
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            raise explain(self.account, region, action, error) from error

    def _assume_role(self) -> dict[str, str]:
        sts = self._make(self._sessions.credentials, "sts", self._home_region(), {})
        parameters = {"RoleArn": self.account.role_arn, "RoleSessionName": self.account.role_session_name}
        if self.account.external_id:
            parameters["ExternalId"] = self.account.external_id
        keys = self._call(sts, "sts:AssumeRole", None, parameters)["Credentials"]
        return {"access_key": keys["AccessKeyId"], "secret_key": keys["SecretAccessKey"], "token": keys["SessionToken"]}

    def _default_region(self) -> str | None:
        region: str | None = self._pool.region or self._sessions.credentials.get_config_variable("region")
        return region

    def _home_region(self) -> str:
        return self._default_region() or _HOME_REGIONS.get(self.account.partition or "aws", "us-east-1")

    def _data_client(self, service: str, region: str) -> Any:
        """The client of a service in a region, made at its first use and then cheap."""
        with self._pool.lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._make(self._sessions.data, service, region, self._keys)
            return self._clients[service, region]

    def _make(self, session: botocore.session.Session, service: str, region: str, keys: Mapping[str, Any]) -> Any:
        with self._pool.lock:  # a botocore session may not be used by two threads; its clients may
            return session.create_client(
                service,
                region_name=region,
                endpoint_url=self._pool.endpoint_url,
                config=self._pool.config_for(region),
                aws_access_key_id=keys.get("access_key"),
                aws_secret_access_key=keys.get("secret_key"),
                aws_session_token=keys.get("token"),
            )


class ClientPool:
    """What all accounts share: loader, configuration, lock.

    :param region: the region of accounts that name none; else the environment and the profile are asked.
    :param endpoint_url: of every service, instead of AWS's own endpoints.
    :param connections: concurrent connections a client may have.
    """

    def __init__(self, *, region: str | None = None, endpoint_url: str | None = None, connections: int = 10) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self.lock = threading.RLock()
        self._config = botocore.config.Config(
            retries={"mode": "adaptive", "max_attempts": 10},  # slows down on throttling instead of failing
            max_pool_connections=connections,
            connect_timeout=10,
            user_agent_extra="fleet.ssm/managed_nodes",
        )
        self._loader = _LeanLoader()
        self._sessions: dict[BaseIdentity, _Sessions] = {}
        self._known_regions: frozenset[str] | None = None

    def config_for(self, region: str) -> botocore.config.Config:
        """Many attempts, but not for a region that botocore does not know: it is new, or (more often) misspelt.

        Its name would be looked up again and again for minutes otherwise.
        """
        if self._known_regions is None:
            session = botocore.session.Session()
            session.register_component("data_loader", self._loader)
            partitions = session.get_available_partitions()
            self._known_regions = frozenset(name for partition in partitions for name in session.get_available_regions("ec2", partition))
        if region in self._known_regions or self.endpoint_url:
            return self._config
        return self._config.merge(botocore.config.Config(retries={"mode": "adaptive", "max_attempts": 2}))

    def sessions(self, identity: BaseIdentity) -> _Sessions:
        with self.lock:
            if identity not in self._sessions:
                self._sessions[identity] = _Sessions(identity, self._loader)
            return self._sessions[identity]
