# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's service does between a client and an agent; both are stand-ins, so nothing depends on a node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ProxyConnectionError

from tests.integration.lab.standin import agent_of, in_thread, open_client
from tests.lab import Lab, LabNode
from tests.lab.codec import Message
from tests.lab.nodes.agent.signing import Credentials, sign

DOCUMENT = "AWS-StartInteractiveCommand"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab([], accounts=["111111111111", "222222222222"]) as running:
        yield running


@pytest.fixture
def node(lab: Lab) -> Iterator[LabNode]:
    """An EC2 instance where nothing runs, until a stand-in speaks for it."""
    made = lab.add({"name": "quiet", "kind": "none"})[0]
    yield made
    made.terminate()
    lab.clear_faults()
    lab.clear_permissions()


def start(lab: Lab, node: LabNode, command: str = "true") -> dict[str, Any]:
    return lab.client("ssm").start_session(Target=node.node_id, DocumentName=DOCUMENT, Parameters={"command": [command]})


def error_code(raised: pytest.ExceptionInfo[ClientError]) -> str:
    return str(raised.value.response["Error"]["Code"])


async def test_a_session_carries_frames_both_ways_and_ends_by_the_agent(lab, node):
    async with agent_of(lab, node) as (agent, http):
        started = await in_thread(start, lab, node, "id")
        client = await open_client(http, started)
        content, channel = await agent.accept_session()
        assert content["Parameters"] == {"command": "id"}
        assert content["DocumentContent"]["sessionType"] == "InteractiveCommands"
        said, answered = Message("input_stream_data", b"\x00\xff\n", payload_type=1), Message("output_stream_data", b"uid=0", payload_type=1)
        await client.send(said)
        assert await channel.receive() == said
        await channel.send(answered)
        assert await client.receive() == answered
        await agent.complete(started["SessionId"], "bye")
        closed = await client.receive()
        assert closed.message_type == "channel_closed" and b'"Output": "bye"' in closed.payload
        assert (await agent.control.receive()).message_type == "agent_task_acknowledge"
    history = lab.client("ssm").describe_sessions(State="History")["Sessions"]
    assert history[0]["SessionId"] == started["SessionId"] and history[0]["Status"] == "Terminated"
    assert not lab.sessions(active=True)


async def test_a_client_that_drops_is_told_to_the_agent_and_comes_back_with_a_new_token(lab, node):
    async with agent_of(lab, node) as (agent, http):
        started = await in_thread(start, lab, node)
        client = await open_client(http, started)
        _unused, channel = await agent.accept_session()
        await client.send(Message("input_stream_data", b"1"))
        await channel.receive()
        assert await in_thread(lab.cut, "client") == 1
        with pytest.raises(ConnectionError):
            await client.receive()
        assert (await channel.receive()).message_type == "pause_publication"
        resumed = await in_thread(lab.client("ssm").resume_session, SessionId=started["SessionId"])
        assert resumed["TokenValue"] != started["TokenValue"]
        stale = await open_client(http, started)
        with pytest.raises(ConnectionError):
            await stale.receive()
        again = await open_client(http, resumed)
        assert (await channel.receive()).message_type == "start_publication"
        await channel.send(Message("output_stream_data", b"2"))
        assert (await again.receive()).payload == b"2"


async def test_terminate_session_tells_both_sides_and_forbids_to_resume(lab, node):
    async with agent_of(lab, node) as (agent, http):
        started = await in_thread(start, lab, node)
        client = await open_client(http, started)
        await agent.accept_session()
        await in_thread(lab.client("ssm").terminate_session, SessionId=started["SessionId"])
        assert (await agent.control.receive()).message_type == "channel_closed"
        assert (await client.receive()).message_type == "channel_closed"
        with pytest.raises(ClientError) as raised:
            await in_thread(lab.client("ssm").resume_session, SessionId=started["SessionId"])
        assert error_code(raised) == "DoesNotExistException"


async def test_an_agent_that_reconnects_while_the_client_is_away_is_paused(lab, node):
    async with agent_of(lab, node) as (agent, http):
        started = await in_thread(start, lab, node)
        client = await open_client(http, started)
        _unused, channel = await agent.accept_session()
        await client.socket.close()
        assert (await channel.receive()).message_type == "pause_publication"
        await in_thread(lab.cut, "agent", node=node.name)
        channel = await agent.open_data(started["SessionId"])
        assert (await channel.receive()).message_type == "pause_publication"


async def test_idle_sessions_end(lab, node):
    lab.settings(minute_seconds=0.02)
    try:
        async with agent_of(lab, node) as (agent, http):
            started = await in_thread(start, lab, node)
            client = await open_client(http, started)
            await agent.accept_session()
            assert (await agent.control.receive()).message_type == "channel_closed"
            assert (await client.receive()).message_type == "channel_closed"
    finally:
        lab.settings(minute_seconds=60)


@pytest.mark.parametrize("fault", ["loss", "duplicate"])
async def test_frames_are_lost_and_doubled_in_one_direction_only(lab, node, fault):
    async with agent_of(lab, node) as (agent, http):
        started = await in_thread(start, lab, node)
        client = await open_client(http, started)
        _unused, channel = await agent.accept_session()
        with lab.fault(direction="to_agent", node=node.name, count=1, **{fault: 1.0}):
            await client.send(Message("input_stream_data", b"struck"))
            await client.send(Message("input_stream_data", b"whole"))
            expected = [b"whole"] if fault == "loss" else [b"struck", b"struck", b"whole"]
            assert [(await channel.receive()).payload for _unused in expected] == expected
            await channel.send(Message("output_stream_data", b"back"))
            assert (await client.receive()).payload == b"back"


async def test_reordered_frames_are_overtaken(lab, node):
    async with agent_of(lab, node) as (agent, http):
        started = await in_thread(start, lab, node)
        client = await open_client(http, started)
        _unused, channel = await agent.accept_session()
        with lab.fault(reorder=1.0, reorder_delay=0.2, count=1, direction="to_client"):
            for payload in (b"first", b"second"):
                await channel.send(Message("output_stream_data", payload))
            assert [(await client.receive()).payload for _turn in range(2)] == [b"second", b"first"]


async def test_a_network_that_is_away_holds_frames_and_gives_them_back(lab, node):
    async with agent_of(lab, node) as (agent, http):
        started = await in_thread(start, lab, node)
        client = await open_client(http, started)
        _unused, channel = await agent.accept_session()
        await client.send(Message("input_stream_data", b"before"))
        assert (await channel.receive()).payload == b"before"
        assert await in_thread(lab.network_away, 1.0) == 1
        await client.send(Message("input_stream_data", b"during"))
        with pytest.raises(TimeoutError):
            await channel.receive(0.5)
        assert (await channel.receive()).payload == b"during"


async def test_a_lost_control_channel_is_seen_at_once(lab, node):
    ssm = lab.client("ssm")
    async with agent_of(lab, node) as (agent, _unused):
        assert ssm.get_connection_status(Target=node.node_id)["Status"] == "connected"
        await agent.control.socket.close()
    assert ssm.get_connection_status(Target=node.node_id)["Status"] == "notconnected"
    with pytest.raises(ClientError) as raised:
        start(lab, node)
    assert error_code(raised) == "TargetNotConnected"


async def test_an_agent_cannot_speak_for_another_node(lab, node):
    async with agent_of(lab, node) as (agent, _unused):
        status, answer = await agent.call("UpdateInstanceInformation", InstanceId="i-0123456789abcdef0")
        assert status == 400 and answer["__type"] == "AccessDeniedException"


def test_an_instance_without_agent_is_not_connected_and_a_wrong_document_is_named(lab, node):
    with pytest.raises(ClientError) as raised:
        start(lab, node)
    assert error_code(raised) == "TargetNotConnected"
    with pytest.raises(ClientError) as raised:
        lab.client("ssm").start_session(Target=node.node_id, DocumentName="No-Such-Document")
    assert error_code(raised) == "InvalidDocument"


def test_pages_of_instance_information_and_filters(lab):
    made = lab.simulate(61, hybrid=True, tags={"Role": "sim"})
    try:
        ssm = lab.client("ssm")
        pages = list(ssm.get_paginator("describe_instance_information").paginate(PaginationConfig={"PageSize": 50}))
        assert [len(page["InstanceInformationList"]) for page in pages] == [50, 11]
        found = ssm.describe_instance_information(Filters=[{"Key": "InstanceIds", "Values": [made[3].node_id]}])
        assert [entry["Name"] for entry in found["InstanceInformationList"]] == ["sim-4"]
        by_tag = ssm.describe_instance_information(Filters=[{"Key": "tag:Role", "Values": ["web"]}])
        assert by_tag["InstanceInformationList"] == []
        with pytest.raises(ClientError) as raised:
            ssm.describe_instance_information(MaxResults=51)
        assert error_code(raised) == "ValidationException"
    finally:
        for node in made:
            node.terminate()


def test_keys_roles_and_expiry(lab):
    with pytest.raises(ClientError) as raised:
        lab.client("ssm", aws_access_key_id="AKIAUNKNOWN").describe_instance_information()
    assert error_code(raised) == "UnrecognizedClientException"
    with pytest.raises(ClientError) as raised:
        lab.client("ssm", aws_secret_access_key="wrong").describe_instance_information()
    assert error_code(raised) == "InvalidSignatureException"
    role = f"arn:aws:iam::{lab.accounts[1]}:role/FleetOperator"
    given = lab.client("sts").assume_role(RoleArn=role, RoleSessionName="me@example.com")["Credentials"]
    keys = {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
    assert lab.client("sts", **keys).get_caller_identity()["Account"] == lab.accounts[1]
    assert lab.expire_credentials(role="FleetOperator") == 1
    for service, call, code in (
        ("ssm", "describe_instance_information", "ExpiredTokenException"),
        ("ec2", "describe_instances", "RequestExpired"),
        ("sts", "get_caller_identity", "ExpiredToken"),
    ):
        with pytest.raises(ClientError) as raised:
            getattr(lab.client(service, **keys), call)()
        assert error_code(raised) == code


def test_a_role_asks_for_its_external_id(lab):
    arn = lab.create_role(lab.accounts[1], "Guarded", external_id="secret-handshake")
    sts = lab.client("sts")
    with pytest.raises(ClientError) as raised:
        sts.assume_role(RoleArn=arn, RoleSessionName="me")
    assert error_code(raised) == "AccessDenied"
    assert sts.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="secret-handshake")["Credentials"]


def test_a_denied_action_names_itself_and_the_resource(lab, node):
    lab.deny("ssm:StartSession")
    with pytest.raises(ClientError) as raised:
        start(lab, node)
    assert error_code(raised) == "AccessDeniedException"
    text = raised.value.response["Error"]["Message"]
    assert "ssm:StartSession" in text and f"instance/{node.node_id}" in text and "user/operator" in text


def websocket_signature(lab: Lab, started: dict[str, Any], **other: str) -> dict[str, str]:
    """What the lab's operator sends with a request for a data channel; `other` takes the place of a part of their key."""
    environment = lab.env()
    given = {"access_key": environment["AWS_ACCESS_KEY_ID"], "secret_key": environment["AWS_SECRET_ACCESS_KEY"], **other}
    made = sign("GET", started["StreamUrl"], {}, b"", credentials=Credentials(**given), service="ssmmessages", region=lab.region)
    return {name: value for name, value in made.items() if name != "Host"}


@pytest.mark.parametrize(("other", "text"), [({"secret_key": "another"}, "signature"), ({"access_key": "AKIANOBODY"}, "security token")])
async def test_a_data_channels_signature_is_verified(lab, node, other, text):
    async with agent_of(lab, node) as (_agent, http):
        started = await in_thread(start, lab, node)
        assert "+" in started["StreamUrl"].partition("cell-number=")[2]
        url = started["StreamUrl"].replace("ws://", "http://")
        async with http.get(url, headers=websocket_signature(lab, started, **other)) as answer:
            assert answer.status == 403
            assert text in (await answer.json())["message"]
        lab.reset_requests()
        await open_client(http, started, websocket_signature(lab, started))
        found = lab.requests(entries=True)
    opened = [entry for entry in found.entries if entry["action"] == "ssmmessages:OpenDataChannel" and not entry["by_node"]]
    assert [entry["principal"] for entry in opened] == [f"arn:aws:iam::{lab.account}:user/operator"]


async def test_a_data_channel_may_be_denied_and_wants_a_signature_then(lab, node):
    async with agent_of(lab, node) as (_agent, http):
        started = await in_thread(start, lab, node)
        url = started["StreamUrl"].replace("ws://", "http://")
        lab.deny("ssmmessages:OpenDataChannel", principal="operator", resource="*/nobody-*")
        await open_client(http, started, websocket_signature(lab, started))
        async with http.get(url) as answer:
            assert answer.status == 403 and "Missing Authentication Token" in await answer.text()
        lab.deny("ssmmessages:OpenDataChannel", principal="operator", resource="arn:aws:ssm:*:session/${aws:userid}-*")
        async with http.get(url, headers=websocket_signature(lab, started)) as answer:
            assert answer.status == 403
            text = (await answer.json())["message"]
    assert "ssmmessages:OpenDataChannel" in text and f"session/{started['SessionId']}" in text


async def test_agents_need_permissions_too(lab, node):
    async with agent_of(lab, node) as (agent, _http):
        lab.deny("ssm:UpdateInstanceInformation", principal="FleetNode")
        status, answer = await agent.call("UpdateInstanceInformation", InstanceId=node.node_id, AgentVersion="3.3.0.0", PlatformType="Linux")
        assert status == 400 and answer["__type"] == "AccessDeniedException" and node.node_id in answer["message"]
        started = await in_thread(start, lab, node)
        lab.deny("ssmmessages:CreateDataChannel", principal="FleetNode")
        with pytest.raises(ConnectionError, match="ssmmessages:CreateDataChannel"):
            await agent.open_data(started["SessionId"])


def test_a_policy_allows_only_what_it_says(lab, node):
    statement = {"Effect": "Allow", "Action": ["ssm:Describe*"], "Resource": "*"}
    lab.policy({"Version": "2012-10-17", "Statement": [statement]}, principal="operator")
    lab.client("ssm").describe_instance_information()
    with pytest.raises(ClientError) as raised:
        lab.client("ec2").describe_instances()
    assert error_code(raised) == "UnauthorizedOperation"


def test_throttling_and_failures_of_an_action(lab):
    ssm, ec2 = lab.client("ssm"), lab.client("ec2")
    with lab.throttle("ssm:Describe*", rate=0.001, burst=2):
        ssm.describe_instance_information()
        ssm.describe_instance_information()
        with pytest.raises(ClientError) as raised:
            ssm.describe_instance_information()
        assert error_code(raised) == "ThrottlingException"
        ec2.describe_instances()
    with lab.fault_calls("ec2:*", status=503, count=1):
        with pytest.raises(ClientError) as raised:
            ec2.describe_instances()
        assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        ec2.describe_instances()


def test_requests_are_counted_and_hold_no_secret(lab, node):
    lab.reset_requests()
    with pytest.raises(ClientError):
        start(lab, node, "swordfish")
    found = lab.requests(entries=True)
    assert found.counts == {"ssm:StartSession": 1} and found.total == 1
    assert found.entries[0]["error"] == "TargetNotConnected"
    assert "swordfish" not in (lab.folder / "requests.jsonl").read_text()


def test_session_documents_and_preferences(lab, node):
    ssm = lab.client("ssm")
    content = '{"schemaVersion":"1.0","sessionType":"InteractiveCommands","parameters":{"x":{"type":"String","allowedPattern":"^[a-z]+$"}}}'
    ssm.create_document(Name="Own-Document", DocumentType="Session", Content=content)
    assert ssm.get_document(Name="Own-Document")["Content"] == content
    with pytest.raises(ClientError) as raised:
        ssm.create_document(Name="Own-Document", DocumentType="Session", Content=content)
    assert error_code(raised) == "DocumentAlreadyExists"
    with pytest.raises(ClientError) as raised:
        ssm.start_session(Target=node.node_id, DocumentName="Own-Document", Parameters={"x": ["NO"]})
    assert error_code(raised) == "InvalidParameters"
    ssm.update_document(Name="Own-Document", Content=content.replace("a-z", "A-Z"), DocumentVersion="$LATEST")
    assert ssm.describe_document(Name="Own-Document")["Document"]["DefaultVersion"] == "1"
    ssm.update_document_default_version(Name="Own-Document", DocumentVersion="2")
    with pytest.raises(ClientError) as raised:
        ssm.start_session(Target=node.node_id, DocumentName="Own-Document", Parameters={"x": ["NO"]})
    assert error_code(raised) == "TargetNotConnected"
    ssm.delete_document(Name="Own-Document")
    with pytest.raises(ClientError) as raised:
        ssm.get_document(Name="Own-Document")
    assert error_code(raised) == "InvalidDocument"


def test_tags_of_hybrid_nodes(lab):
    node = lab.simulate(1, prefix="tagged", hybrid=True, tags={"Role": "web"})[0]
    ssm = lab.client("ssm")
    where = {"ResourceType": "ManagedInstance", "ResourceId": node.node_id}
    ssm.add_tags_to_resource(**where, Tags=[{"Key": "Env", "Value": "prod"}])
    ssm.remove_tags_from_resource(**where, TagKeys=["Role"])
    tags = {tag["Key"]: tag["Value"] for tag in ssm.list_tags_for_resource(**where)["TagList"]}
    assert tags == {"Name": "tagged-1", "Env": "prod"}
    node.terminate()


def test_names_of_aws_itself_lead_through_a_proxy_to_the_lab(lab):
    with lab.proxy("me", "pass word") as proxy:
        for url, allowed in ((proxy.authorized_url, True), (proxy.url, False)):
            config = Config(proxies={"https": url.replace(" ", "%20")}, retries={"total_max_attempts": 1})
            ssm = lab.client("ssm", endpoint_url=None, config=config, verify=str(lab.ca_path))
            if allowed:
                ssm.describe_instance_information()
            else:
                with pytest.raises(ProxyConnectionError):
                    ssm.describe_instance_information()
        assert {(request.target, request.authorized) for request in proxy.requests} == {
            (f"ssm.{lab.region}.amazonaws.com:443", True),
            (f"ssm.{lab.region}.amazonaws.com:443", False),
        }


def test_plain_requests_pass_a_proxy(lab):
    with lab.proxy() as proxy:
        config = Config(proxies={"http": proxy.url})
        assert lab.client("sts", config=config).get_caller_identity()["Account"] == lab.account
        assert [request.method for request in proxy.requests] == ["POST"]


def test_other_services_are_motos(lab):
    s3 = lab.client("s3")
    s3.create_bucket(Bucket="things", CreateBucketConfiguration={"LocationConstraint": lab.region})
    s3.put_object(Bucket="things", Key="ä b/c", Body=b"\x00\xff" * 1000)
    assert s3.get_object(Bucket="things", Key="ä b/c")["Body"].read() == b"\x00\xff" * 1000
    assert lab.client("s3", account=lab.accounts[1]).list_buckets()["Buckets"] == []
    key = lab.client("kms").create_key()["KeyMetadata"]["KeyId"]
    assert lab.client("kms").generate_data_key(KeyId=key, NumberOfBytes=64)["Plaintext"]
