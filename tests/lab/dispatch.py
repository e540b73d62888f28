# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API endpoint: which service and action a request means, who calls, whether it may, and who answers.

Order, as a caller would notice it: the network, delays and faults, credentials, permissions, then the service.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from . import bucket_encryption, bucket_policy, ec2_messages, instance_facts, instance_profiles, organizations, resource_groups, role_policies, sts, tagging
from .auth import Principal, RawRequest, Signature, authenticate, parse_signature
from .documents import owner_of, short_name
from .errors import AwsError, WireProtocol, failed
from .faults import Side
from .moto_bridge import Answer, bucket_region, iam_arn, key_arn, remembered
from .request_log import LoggedRequest, caller_of, timestamp
from .rest_names import rest_operation
from .ssm_api import HANDLERS, SELF_AUTHORIZED, Call
from .validation import parse_parameters
from .world import World

_log = logging.getLogger(__name__)

_JSON = "application/x-amz-json-1.1"
#: Prefixes of X-Amz-Target, where they are not simply the service's name in the credential scope.
_TARGETS = {
    "AmazonSSM": "ssm",
    "EC2WindowsMessageDeliveryService": "ec2messages",
    "ResourceGroupsTaggingAPI_20170126": "tag",
    "TrentService": "kms",
}
#: Actions by which IAM knows operations of S3 that have another name; case does not matter (service authorization reference of S3).
#: Objects are deleted by version here: whoever deletes many names versions.
_IAM_ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "GetBucketVersions": "ListBucketVersions",
    "HeadObject": "GetObject",
    "PostBucketDelete": "DeleteObjectVersion",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycle": "GetLifecycleConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
}
#: EC2 actions after which nodes have to follow their instances.
_STATE_CHANGES = frozenset({"StartInstances", "StopInstances", "TerminateInstances", "RebootInstances", "RunInstances"})
#: Calls that prove themselves otherwise than by SigV4.
_UNSIGNED = frozenset({"RegisterManagedInstance"})
_RSA_SIGNED = frozenset({"RequestManagedInstanceRoleToken", "UpdateManagedInstancePublicKey"})


@dataclass
class Meaning:
    """What a request asks for."""

    service: str
    action: str
    region: str
    protocol: WireProtocol
    signature: Signature | None
    form: dict[str, str]

    @property
    def name(self) -> str:
        """As IAM writes it."""
        return f"{self.service}:{self.action}"


class Dispatcher:
    """Answers every request that has no route of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ec2_changed = asyncio.Event()  #: set when instances may have changed state
        self.rebooted: list[str] = []  #: ids that RebootInstances named since the last look

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The handler of aiohttp."""
        begun = time.monotonic()
        body = await request.read()
        raw = RawRequest(request.method, request.raw_path, request.headers, body)
        meaning = understand(raw)
        principal: Principal | None = None
        error, lost = "", False
        try:
            signed_by = self._world.vault.get(meaning.signature.access_key) if meaning.signature else None
            await self._pass_network(request, signed_by.principal if signed_by else None)
            account = signed_by.principal.account if signed_by else None
            lost = await self._world.faults.call(meaning.name, account, meaning.region, meaning.protocol)
            principal = self._authenticate(raw, meaning)
            answer = await self._answer(request, raw, meaning, principal)
        except AwsError as problem:
            content, kind = problem.render(meaning.protocol)
            headers = [("Content-Type", kind), ("x-amzn-ErrorType", problem.code), *problem.headers.items()]
            answer, error = Answer(problem.status, headers, content), problem.code
        except ConnectionError:
            raise
        except Exception:
            _log.exception("%s failed", meaning.name)
            content, kind = failed(meaning.protocol).render(meaning.protocol)
            answer, error = Answer(500, [("Content-Type", kind)], content), "lab failure"
        if answer.status >= 400 and not error:
            error = str(answer.status)
        self._note(raw, meaning, principal, answer, error, begun)
        if lost and request.transport is not None:
            request.transport.abort()
            raise ConnectionError("the answer is lost")
        response = web.Response(status=answer.status, body=answer.body)
        for name, value in answer.headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                response.headers.add(name, value)
        if request.method == "HEAD":
            _keep_length(response, answer)
        return response

    async def _pass_network(self, request: web.Request, principal: Principal | None) -> None:
        side = Side.AGENT if principal is not None and principal.node_id else Side.CLIENT
        names = frozenset((principal.node_id,)) if principal is not None and principal.node_id else frozenset[str]()
        back = self._world.faults.away_until(side, names)
        if back:
            await asyncio.sleep(back - asyncio.get_running_loop().time())
            if request.transport is None or request.transport.is_closing():
                raise ConnectionError("the caller did not wait")

    def _authenticate(self, raw: RawRequest, meaning: Meaning) -> Principal:
        if meaning.service == "ssm" and meaning.action in _UNSIGNED:
            return Principal("", "anonymous", "anonymous", node_id="")
        if meaning.service == "ssm" and meaning.action in _RSA_SIGNED and meaning.signature is not None:
            # Signed by the agent's own RSA key, with its id in the place of the access key.
            node = self._world.nodes.get(meaning.signature.access_key)
            if node is not None:
                return Principal(node.spec.account, node.arn, node.node_id, node_id=node.node_id)
        if meaning.signature is None and meaning.name in ("s3:GetObject", "s3:HeadObject"):
            anonymous = bucket_policy.anyone("s3:GetObject", unquote(_s3_path(raw)))
            if anonymous is not None:
                meaning.region = bucket_region(_s3_path(raw).partition("/")[0]) or ""
                return anonymous
        return authenticate(
            self._world.vault,
            raw,
            meaning.signature,
            meaning.protocol,
            verify=self._world.settings.verify_signatures,
            clock_ahead=self._world.settings.s3_clock_ahead if meaning.service == "s3" else 0.0,
        )

    async def _answer(self, request: web.Request, raw: RawRequest, meaning: Meaning, principal: Principal) -> Answer:
        if meaning.service == "ssm" and meaning.action in HANDLERS:
            return await self._ssm(request, raw, meaning, principal)
        action = iam_action(meaning.name)
        self._world.permissions.check(principal, action, _resources(meaning, raw, principal.account), meaning.protocol)
        if passed := _passed_roles(meaning, raw):
            self._world.permissions.check(principal, "iam:PassRole", passed, meaning.protocol)
        if meaning.service == "ec2messages":
            parameters = json.loads(raw.body or b"{}")
            return _json(await ec2_messages.answer(self._world, principal, meaning.action, parameters))
        if meaning.service == "sts":
            text = sts.answer(self._world, principal, meaning.action, meaning.form)
            if text is not None:
                return Answer(200, [("Content-Type", "text/xml")], text.encode())
        if meaning.service == "tag":
            parameters = json.loads(raw.body or b"{}")
            members = tagging.answer(self._world, principal.account, meaning.region, meaning.action, parameters)
            if members is not None:
                return _json(members)
        if meaning.service == "resource-groups":
            members = resource_groups.answer(self._world, principal.account, meaning.region, meaning.action, json.loads(raw.body or b"{}"))
            if members is not None:
                return _json(members)
        if meaning.service == "ec2" and meaning.action in instance_profiles.ACTIONS:
            return instance_profiles.answer(self._world, principal, meaning.region, meaning.action, meaning.form)
        if meaning.service == "ec2" and meaning.action in instance_facts.ACTIONS:
            return instance_facts.answer(self._world, principal.account, meaning.region, meaning.action, meaning.form)
        if meaning.service == "iam" and meaning.action == "SimulatePrincipalPolicy":
            return role_policies.simulate(principal.account, meaning.form)
        if meaning.service == "iam":
            hidden = instance_profiles.hidden(self._world, principal.account, meaning.action, meaning.form)
            if hidden is not None:
                raise hidden
            instance_profiles.check_pass_role(self._world, principal, meaning.action, meaning.form)
        if meaning.service == "s3":
            _refuse_other_regions(meaning, _s3_path(raw).partition("/")[0])
            self._check_s3(raw, meaning, principal, action)
        account = organizations.asked_as(principal.account, meaning.action) if meaning.service == "organizations" else principal.account
        answer = await self._ask_moto(raw, meaning, account)
        if meaning.service == "s3" and answer.status == 404 and meaning.action in ("GetObject", "HeadObject"):
            # Only who may list a bucket may know what is not in it.
            bucket = _s3_path(raw).partition("/")[0]
            self._world.permissions.check(principal, "s3:ListBucket", (f"arn:aws:s3:::{bucket}",), meaning.protocol)
        if meaning.service == "ec2" and meaning.action == "DescribeIamInstanceProfileAssociations" and answer.status < 300:
            answer = Answer(answer.status, answer.headers, instance_profiles.dated(principal.account, meaning.region, answer.body))
        if meaning.service == "ec2" and meaning.action in _STATE_CHANGES and answer.status < 300:
            if meaning.action == "RebootInstances":
                self.rebooted += [value for key, value in meaning.form.items() if key.startswith("InstanceId.")]
            self.ec2_changed.set()
        return answer

    async def _ask_moto(self, raw: RawRequest, meaning: Meaning, account: str) -> Answer:
        if meaning.name == "ec2:DescribeInstances":
            key = (account, meaning.region, frozenset(meaning.form.items()))
            return await remembered.answer(key, lambda: self._world.moto.call(raw, account))
        try:
            return await self._world.moto.call(raw, account)
        finally:
            if not meaning.action.startswith(("Describe", "Get", "List", "Head")):
                remembered.forget()

    def _check_s3(self, raw: RawRequest, meaning: Meaning, principal: Principal, action: str) -> None:
        """All who have a say in who may use an object: the endpoint on the way, the caller's policies, the bucket's, and its key's."""
        resources = _resources(meaning, raw, principal.account)
        if principal.node_id is not None or (meaning.signature is not None and meaning.signature.presigned_seconds is not None):
            self._world.permissions.check_endpoint(principal, action, resources)
        for one in (action, *(("s3:PutObjectAcl",) if action == "s3:PutObject" and "x-amz-acl" in raw.headers else ())):
            self._world.permissions.check(principal, one, resources, meaning.protocol)
            bucket_policy.check(principal, one, unquote(_s3_path(raw)))
        key = bucket_encryption.key_of(meaning.action, unquote(_s3_path(raw)), raw.headers, meaning.region)
        if key is not None:
            kms_action = "kms:Decrypt" if meaning.action == "GetObject" else "kms:GenerateDataKey"
            self._world.permissions.check(principal, kms_action, (key,), meaning.protocol)

    async def _ssm(self, request: web.Request, raw: RawRequest, meaning: Meaning, principal: Principal) -> Answer:
        parameters = parse_parameters(meaning.action, raw.body)
        if meaning.action not in SELF_AUTHORIZED:
            resource = _ssm_resource(meaning, principal.account, parameters)
            self._world.permissions.check(principal, meaning.name, (resource,), meaning.protocol)

        async def to_moto() -> dict[str, Any]:
            answer = await self._world.moto.call(raw, principal.account)
            found: dict[str, Any] = json.loads(answer.body or b"{}")
            if answer.status >= 400:
                code = str(found.get("__type", "InternalServerError")).rpartition("#")[2]
                raise AwsError(code, found.get("message") or found.get("Message") or "", answer.status)
            return found

        call = Call(
            world=self._world,
            account=principal.account,
            region=meaning.region,
            principal=principal,
            parameters=parameters,
            stream_base=self._stream_base(request),
            to_moto=to_moto,
        )
        return _json(await HANDLERS[meaning.action](call))

    def _stream_base(self, request: web.Request) -> str:
        scheme = self._world.settings.stream_scheme
        if scheme == "auto":
            host = request.host
            if host.startswith("ssm."):  # AWS's own name, through a proxy: there the gateway has another
                host = host.replace("ssm.", "ssmmessages.", 1)
            return f"{'wss' if request.secure else 'ws'}://{host}"
        assert self._world.endpoints is not None
        base = self._world.endpoints.agent_https_url if scheme == "wss" else self._world.endpoints.api_url
        return f"{scheme}://{base.partition('://')[2]}"

    def _note(
        self, raw: RawRequest, meaning: Meaning, principal: Principal | None, answer: Answer, error: str, begun: float
    ) -> None:
        self._world.log.add(
            LoggedRequest(
                time=timestamp(),
                account=principal.account if principal else "",
                region=meaning.region,
                action=meaning.name,
                principal=principal.arn if principal else "",
                status=answer.status,
                error=error,
                milliseconds=round((time.monotonic() - begun) * 1000, 1),
                request_bytes=len(raw.body),
                response_bytes=len(answer.body),
                by_node=principal is not None and principal.node_id is not None,
                caller=caller_of(raw.headers),
            )
        )


def understand(raw: RawRequest) -> Meaning:
    """Find service, action and protocol of a request."""
    signature = parse_signature(raw)
    target = raw.headers.get("X-Amz-Target", "")
    service = signature.service if signature is not None else ""
    region = signature.region if signature is not None else ""
    if target:
        prefix, _unused, action = target.rpartition(".")
        service = _TARGETS.get(prefix, service or prefix.lower())
        return Meaning(service, action, region, WireProtocol.JSON, signature, {})
    if service in ("s3", ""):
        return Meaning("s3", _s3_action(raw), region, WireProtocol.S3, signature, {})
    if service == "resource-groups":  # POST /list-group-resources
        action = raw.target.partition("?")[0].strip("/").title().replace("-", "")
        return Meaning(service, action, region, WireProtocol.JSON, signature, {})
    form = dict(parse_qsl(raw.target.partition("?")[2], keep_blank_values=True))
    if raw.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        form |= dict(parse_qsl(raw.body.decode("utf-8", "replace"), keep_blank_values=True))
    protocol = WireProtocol.EC2 if service == "ec2" else WireProtocol.QUERY
    path = raw.target.partition("?")[0]
    if "Action" not in form and (operation := rest_operation(service, raw.method, path)):
        return Meaning(service, operation, region, WireProtocol.JSON, signature, form)
    return Meaning(service, form.get("Action") or f"{raw.method} {path}", region, protocol, signature, form)


def iam_action(name: str) -> str:
    """The action by which IAM knows an operation, both as ``s3:HeadBucket``."""
    service, _colon, operation = name.partition(":")
    if service == "sqs":  # IAM does not tell batches from single messages
        return name.removesuffix("Batch")
    return f"s3:{_IAM_ACTIONS.get(operation, operation)}" if service == "s3" else name


def _passed_roles(meaning: Meaning, raw: RawRequest) -> tuple[str, ...]:
    """Roles that a call gives to a service, for which the caller needs iam:PassRole."""
    if meaning.name in ("lambda:CreateFunction", "lambda:UpdateFunctionConfiguration"):
        found = [json.loads(raw.body).get("Role")]
    elif meaning.name == "events:PutTargets":
        found = [target.get("RoleArn") for target in json.loads(raw.body)["Targets"]]
    else:
        found = []
    return tuple(role for role in found if role)


def _s3_path(raw: RawRequest) -> str:
    """Bucket and key, wherever the request has the bucket: in its path or before the host's name."""
    path = raw.target.partition("?")[0].strip("/")
    bucket = re.match(r"([^:]+)\.s3[.-]", raw.headers.get("Host", ""))
    return f"{bucket[1]}/{path}".strip("/") if bucket else path


def _s3_action(raw: RawRequest) -> str:
    """S3's actions are methods and paths; the usual ones get their names, the others show what they are."""
    path, query = _s3_path(raw), raw.target.partition("?")[2]
    has_key = "/" in path
    simple = {
        ("GET", True): "GetObject",
        ("PUT", True): "PutObject",
        ("HEAD", True): "HeadObject",
        ("DELETE", True): "DeleteObject",
        ("HEAD", False): "HeadBucket",
        ("PUT", False): "CreateBucket",
        ("DELETE", False): "DeleteBucket",
        ("GET", False): "ListObjects" if path else "ListBuckets",
    }
    if has_key and ("uploads" in query or "uploadId" in query):
        return "AbortMultipartUpload" if raw.method == "DELETE" else "PutObject"
    sub = re.match(r"([a-zA-Z]+)(?:=?(?:&|$))", query)
    if sub is not None and sub[1] not in ("versionId", "prefix"):
        return f"{raw.method.title()}{'Object' if has_key else 'Bucket'}{sub[1].title()}"
    return simple.get((raw.method, has_key), raw.method.title())


def _ssm_resource(meaning: Meaning, account: str, parameters: dict[str, Any]) -> str:
    """What a call of SSM is about: a document if it names one. Sessions and their nodes are the handlers' to know."""
    if "Document" in meaning.action and "Name" in parameters:
        name, owner = short_name(parameters["Name"]), owner_of(parameters["Name"]) or account
        return f"arn:aws:ssm:{meaning.region}:{'' if name.startswith('AWS-') else owner}:document/{name}"
    if "SettingId" in parameters:
        return f"arn:aws:ssm:{meaning.region}:{account}:servicesetting/{parameters['SettingId'].lstrip('/')}"
    if meaning.action in ("PutParameter", "GetParameter", "DeleteParameter"):
        return f"arn:aws:ssm:{meaning.region}:{account}:parameter/{parameters.get('Name', '*').lstrip('/')}"
    return f"arn:aws:ssm:{meaning.region}:{account}:*"


def _resources(meaning: Meaning, raw: RawRequest, account: str) -> tuple[str, ...]:
    if meaning.action == "PostBucketDelete":
        return tuple(f"arn:aws:s3:::{_s3_path(raw)}/{key}" for key in re.findall(r"<Key>([^<]*)</Key>", raw.body.decode()))
    if meaning.service == "s3":
        return (f"arn:aws:s3:::{_s3_path(raw)}",)
    if meaning.service == "sts":
        return (meaning.form.get("RoleArn", "*"),)
    if meaning.service == "kms":
        parameters = json.loads(raw.body or b"{}")
        alias = (f"arn:aws:kms:{meaning.region}:{account}:{parameters['AliasName']}",) if "AliasName" in parameters else ()
        return (*alias, key_arn(account, meaning.region, parameters.get("TargetKeyId") or parameters.get("KeyId", "*")))
    if meaning.service == "ec2" and meaning.action in instance_profiles.ACTIONS:
        return instance_profiles.resources(account, meaning.region, meaning.action, meaning.form)
    if meaning.service == "ec2" and meaning.action == "RevokeSecurityGroupIngress":
        return (f"arn:aws:ec2:{meaning.region}:{account}:security-group/{meaning.form.get('GroupId', '*')}",)
    if meaning.service == "ssm":
        return (_ssm_resource(meaning, account, json.loads(raw.body or b"{}")),)
    if meaning.service == "iam":
        return (iam_arn(account, meaning.form),)
    if meaning.service == "sqs":
        parameters = json.loads(raw.body or b"{}") if meaning.protocol is WireProtocol.JSON else meaning.form
        name = parameters.get("QueueName") or str(parameters.get("QueueUrl", "*")).rpartition("/")[2]
        return (f"arn:aws:sqs:{meaning.region}:{account}:{name}",)
    if meaning.service == "sns":
        return (meaning.form.get("TopicArn", "*"),)
    if meaning.service == "events":
        return (_events_resource(meaning, account, json.loads(raw.body or b"{}")),)
    if meaning.service == "lambda":
        if "/tags/" in raw.target:
            return (unquote(raw.target.partition("/tags/")[2].partition("?")[0]),)
        function = re.match(r"/[\d-]+/functions/([^/?]+)", raw.target)
        name = function[1] if function else str(json.loads(raw.body or b"{}").get("FunctionName", "*"))
        return (f"arn:aws:lambda:{meaning.region}:{account}:function:{name}",)
    return ("*",)


def _events_resource(meaning: Meaning, account: str, parameters: dict[str, Any]) -> str:
    """A rule, on a bus of its own or on the default one, or a bus."""
    if "ResourceARN" in parameters:
        return str(parameters["ResourceARN"])
    bus = parameters.get("EventBusName", "default")
    if "Bus" in meaning.action or "Permission" in meaning.action:
        return f"arn:aws:events:{meaning.region}:{account}:event-bus/{parameters.get('Name', bus)}"
    name = parameters.get("Rule") or parameters.get("Name", "*")
    return f"arn:aws:events:{meaning.region}:{account}:rule/{name if bus == 'default' else f'{bus}/{name}'}"


def _refuse_other_regions(meaning: Meaning, bucket: str) -> None:
    """A request that was signed for another region than the bucket's is sent there."""
    region = bucket_region(bucket)
    if region is not None and meaning.action != "CreateBucket" and meaning.region != region:
        text = "The bucket you are attempting to access must be addressed using the specified endpoint."
        raise AwsError("PermanentRedirect", text, 301, {"x-amz-bucket-region": region})


def _json(members: dict[str, Any]) -> Answer:
    return Answer(200, [("Content-Type", _JSON)], json.dumps(members).encode())


def _keep_length(response: web.Response, answer: Answer) -> None:
    """HEAD answers have the length of what GET would give."""
    for name, value in answer.headers:
        if name.lower() == "content-length":
            response.headers["Content-Length"] = value
