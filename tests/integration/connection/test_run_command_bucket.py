# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bucket of the route run_command: elsewhere, encrypted, refused. Each failure is named, on the controller's side and on the node's."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity import Identity
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.aws.identity_key import IdentityKey
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command import bucket
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.commands import Commands
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.journal import Journal
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.command.route import CommandRoute
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.controllers import Controllers
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.examination import output_of
from ansible_collections.fleet.ssm.plugins.plugin_utils.mux.request import ConnectionOptions, credential_environment
from tests.integration.controller import mux_processes, peak_memory
from tests.integration.direct import DirectConnection
from tests.integration.routes import by_run_command, without_bucket
from tests.integration.waiting import eventually
from tests.lab import Lab

Connect = Callable[..., DirectConnection]

LARGE = os.urandom(60_000)
"""Too large for a script, or for what a command prints: it passes through the bucket."""
SENDS = "head -c 60000 /dev/urandom"


def make_bucket(lab: Lab, name: str, *, account: str | None = None, region: str | None = None) -> Any:
    """A bucket, and the client that may do everything with it."""
    s3 = lab.client("s3", account=account, region=region)
    location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region or lab.region}}
    s3.create_bucket(Bucket=name, **location)
    return s3


@pytest.fixture(scope="module")
def refusing(lab: Lab) -> str:
    """A bucket of its own for what is refused: objects may stay in it."""
    make_bucket(lab, "fleet-ssm-refusing")
    return "fleet-ssm-refusing"


@pytest.fixture
def key(lab: Lab) -> str:
    """A KMS key."""
    arn: str = lab.client("kms").create_key()["KeyMetadata"]["Arn"]
    return arn


@pytest.fixture
def encrypted(faults: Lab, connect: Connect, refusing: str, key: str) -> DirectConnection:
    """A node that is there, by a bucket whose objects get a key of the account's."""
    connection = connect(ansible_ssm_bucket=refusing, ansible_ssm_bucket_sse_mode="aws:kms", ansible_ssm_bucket_sse_kms_key_id=key)
    connection.plugin._connect()
    return connection


def other_region(lab: Lab) -> str:
    (region,) = [region for region in lab.regions if region != lab.region]
    return region


def policy(effect: str, *actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": list(actions), "Resource": resource}]}


@contextmanager
def changed_on_the_way(lab: Lab, bucket: str, change: Callable[[], Any]) -> Iterator[None]:
    """Once the next object lies in the bucket, and before AWS takes the command that is to fetch it, something is changed."""
    s3 = lab.client("s3")

    def objects() -> set[str]:
        return {each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])}

    before = objects()

    def wait_and_change() -> None:
        eventually(lambda: objects() - before)
        change()

    changing = threading.Thread(target=wait_and_change)
    with lab.fault_calls("ssm:SendCommand", delay=2.0, count=1):
        changing.start()
        yield
        changing.join()


@by_run_command
async def test_an_object_goes_once_no_url_is_valid_while_its_command_still_runs(
    lab: Lab, refusing: str, route: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mux of this test is in its own process, as URLs live for a quarter of an hour."""
    s3, node = lab.client("s3"), lab.node("web-1")
    options = ConnectionOptions(node.node_id, region=node.region, route="run_command", bucket=refusing, bucket_prefix="expiring", delivery_timeout=30)
    monkeypatch.setattr(bucket, "URL_LIVES", 6 - options.delivery_timeout)

    def objects() -> bool:
        return bool(s3.list_objects_v2(Bucket=refusing, Prefix="expiring/").get("Contents"))

    log = logging.getLogger("test")
    identity = Identity(IdentityKey.of(options, credential_environment(lab.env())), {})
    commands = Commands(identity, log, Journal(str(tmp_path / "mux")), Controllers())
    run_command = CommandRoute(commands, options, log, b"")
    await run_command.open(options, "a test")
    running = asyncio.ensure_future(output_of("test", run_command, options, "cat; sleep 20; echo .", b"input"))
    try:
        await asyncio.to_thread(eventually, objects)
        await asyncio.to_thread(eventually, lambda: not objects())
        assert not running.done()
        assert await running == b"input.\n"
    finally:
        await run_command.close()
        await commands.close()


# Elsewhere


@by_run_command
def test_a_bucket_in_another_region_with_kms(lab: Lab, connect: Connect) -> None:
    region = other_region(lab)
    key = lab.client("kms", region=region).create_key()["KeyMetadata"]["Arn"]
    make_bucket(lab, "fleet-ssm-far", region=region)
    connection = connect(ansible_ssm_bucket="fleet-ssm-far", ansible_ssm_bucket_sse_mode="aws:kms", ansible_ssm_bucket_sse_kms_key_id=key)
    assert connection.execute("cat", LARGE) == (0, LARGE, b"")


@pytest.mark.slow
@without_bucket
def test_a_wrong_region_of_the_bucket_is_named(lab: Lab, connect: Connect, refusing: str) -> None:
    connection = connect(ansible_ssm_bucket=refusing, ansible_ssm_bucket_region=other_region(lab))
    with pytest.raises(AnsibleError, match=r"301 PermanentRedirect.*bucket_region"):
        connection.execute(SENDS)


@pytest.mark.slow
@without_bucket
def test_a_bucket_of_another_account_must_allow_it(lab: Lab, connect: Connect) -> None:
    _first, account, *_others = lab.accounts
    s3 = make_bucket(lab, "fleet-ssm-foreign", account=account)
    connection = connect(ansible_ssm_bucket="fleet-ssm-foreign", ansible_ssm_bucket_region=lab.region)
    with pytest.raises(AnsibleError, match=r"s3:PutObject on \S*fleet-ssm-foreign.*another account's must allow it"):
        connection.execute("cat", LARGE)
    with pytest.raises(AnsibleError, match=r"status 0.*403 AccessDenied.*bucket's policy must allow s3:PutObject.*is kept on the node"):
        connection.execute(SENDS)
    allowing = policy("Allow", "s3:PutObject", "s3:GetObject", "s3:DeleteObject", resource="arn:aws:s3:::fleet-ssm-foreign/fleet-ssm/*")
    allowing["Statement"][0]["Principal"] = {"AWS": f"arn:aws:iam::{lab.account}:root"}
    s3.put_bucket_policy(Bucket="fleet-ssm-foreign", Policy=json.dumps(allowing))
    assert connection.execute("cat", LARGE) == (0, LARGE, b"")
    eventually(lambda: s3.list_objects_v2(Bucket="fleet-ssm-foreign").get("Contents", []) == [])


@by_run_command
def test_a_bucket_that_does_not_exist_is_named_before_anything_is_run(connect: Connect) -> None:
    connection = connect(ansible_ssm_bucket="fleet-ssm-no-such-bucket")
    with pytest.raises(AnsibleError, match=r"fleet-ssm-no-such-bucket.*does not exist"):
        connection.execute("true")


@pytest.mark.slow
@without_bucket
def test_a_bucket_that_is_deleted_in_the_middle_is_named_and_the_output_kept(lab: Lab, connect: Connect) -> None:
    s3 = make_bucket(lab, "fleet-ssm-passing")
    connection = connect(ansible_ssm_bucket="fleet-ssm-passing")
    connection.plugin._connect()
    timer = threading.Timer(1.0, lambda: s3.delete_bucket(Bucket="fleet-ssm-passing"))
    timer.start()
    with pytest.raises(AnsibleError, match=r"status 5.*404 NoSuchBucket.*check the option bucket.*is kept on the node for three days, in run-") as caught:
        connection.execute(f"sleep 2; {SENDS}; exit 5")
    timer.join()
    folder = str(caught.value).partition("run-")[2].split()[0]
    kept = connect("web-1", ansible_ssm_bucket=None).execute(f"gzip -dc </var/lib/fleet-ssm/run-{folder}/o | wc -c")
    assert kept == (0, b"60000\n", b"")


# Refused


@by_run_command
def test_a_key_that_may_not_be_used_is_named_on_either_side(faults: Lab, encrypted: DirectConnection, key: str) -> None:
    faults.deny("kms:Decrypt")
    with pytest.raises(AnsibleError, match=r"could not fetch s3://fleet-ssm-refusing/\S+ .*allow kms:Decrypt on the bucket's KMS key.*Nothing was run"):
        encrypted.execute("cat", LARGE)
    faults.deny("kms:GenerateDataKey")
    with pytest.raises(AnsibleError, match=rf"may not kms:GenerateDataKey on {key}"):
        encrypted.execute("cat", LARGE)


@pytest.mark.slow
@by_run_command
def test_a_key_that_may_not_encrypt_output_is_named_and_the_output_kept(faults: Lab, encrypted: DirectConnection) -> None:
    faults.deny("kms:GenerateDataKey")
    with pytest.raises(AnsibleError, match=r"status 0.*could not send s3://\S+ .*allow kms:GenerateDataKey on the bucket's KMS key.*is kept on the node"):
        encrypted.execute(SENDS)


@pytest.mark.slow
@without_bucket
def test_the_policy_of_the_nodes_endpoint_for_s3_is_named(faults: Lab, connect: Connect, refusing: str) -> None:
    connection = connect(ansible_ssm_bucket=refusing)
    connection.plugin._connect()
    faults.endpoint_policy(policy("Allow", "s3:*", resource="arn:aws:s3:::of-the-agent/*"))
    with pytest.raises(AnsibleError, match=r"could not fetch .*policy of the VPC's endpoint for S3.*Nothing was run"):
        connection.execute("cat", LARGE)
    faults.endpoint_policy(policy("Allow", "s3:GetObject"))
    with pytest.raises(AnsibleError, match=r"could not send .*policy of the VPC's endpoint for S3"):
        connection.execute(SENDS)


@pytest.mark.slow
@without_bucket
def test_a_wrong_clock_and_a_url_that_has_expired_are_named(faults: Lab, connect: Connect, refusing: str) -> None:
    connection = connect(ansible_ssm_bucket=refusing)
    connection.plugin._connect()
    expired = pytest.raises(AnsibleError, match=r"could not fetch .*Request has expired.*the URL has expired.*Nothing was run")
    with changed_on_the_way(faults, refusing, lambda: faults.settings(s3_clock_ahead=3600.0)), expired:
        connection.execute("cat", LARGE)
    with pytest.raises(AnsibleError, match=r"s3:PutObject.*the clock of this machine is wrong"):
        connection.execute("cat", LARGE)


@pytest.mark.slow
@without_bucket
def test_credentials_that_expire_on_the_way_are_named(faults: Lab, own_connect: Connect, refusing: str) -> None:
    role = faults.create_role(faults.account, "Passing")
    connection = own_connect(ansible_ssm_bucket=refusing, ansible_ssm_role_arn=role)
    connection.plugin._connect()
    expired = pytest.raises(AnsibleError, match=r"could not fetch .*credentials that signed it have expired.*Nothing was run")
    with changed_on_the_way(faults, refusing, lambda: faults.expire_credentials(role="Passing")), expired:
        connection.execute("cat", LARGE)
    assert connection.execute("cat", LARGE) == (0, LARGE, b"")


@pytest.mark.slow
@without_bucket
def test_a_certificate_that_the_node_does_not_trust_is_named(lab: Lab, own_connect: Connect, refusing: str) -> None:
    connection = own_connect(ansible_ssm_bucket=refusing, ansible_ssm_bucket_endpoint_url=lab.https_url, ansible_ssm_ca_bundle=str(lab.ca_path))
    with pytest.raises(AnsibleError, match=r"could not fetch .*does not trust S3's certificate.*Nothing was run"):
        connection.execute("cat", LARGE)


# Nodes without what it needs


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[str]:
    """A node with neither curl nor Python."""
    (node,) = lab.add({"name": "bare-of-curl", "python": False})
    node.run("rm -f /usr/bin/curl /usr/local/bin/curl")
    yield node.node_id
    node.terminate()


@pytest.mark.slow
@by_run_command
def test_a_node_without_curl_and_python_says_what_to_install(connect: Connect, bare: str) -> None:
    connection = connect(bare)
    assert connection.execute("echo small") == (0, b"small\n", b"")
    assert connect(bare, ansible_ssm_expose_secrets=True).execute("cat", b"small") == (0, b"small", b"")
    with pytest.raises(AnsibleError, match=r"lacks curl and Python 3.*install one, or use route: session.*Nothing was run"):
        connection.execute("cat", LARGE)
    with pytest.raises(AnsibleError, match=r"status 0, but its output could not be had.*lacks curl and Python 3.*is kept on the node"):
        connection.execute(SENDS)


@pytest.mark.slow
@by_run_command
def test_a_node_without_curl_transfers_by_python(lab: Lab, connect: Connect) -> None:
    (node,) = lab.add({"name": "python-alone"})
    try:
        node.run("rm -f /usr/bin/curl /usr/local/bin/curl")
        assert connect(node.node_id).execute("cat", LARGE) == (0, LARGE, b"")
    finally:
        node.terminate()


# Sizes


@pytest.mark.slow
@by_run_command
@pytest.mark.parametrize("size", [0, 17_600, 23_999, 24_000, 24_001])
def test_output_of_any_size_around_what_is_printed(connect: Connect, size: int) -> None:
    """As it is, and in each way of being longer or shorter than what AWS gives: compressible, random, not UTF-8."""
    data = os.urandom(size)
    connection = connect()
    assert connection.execute(f"head -c {size} /dev/zero | tr '\\0' '\\377'") == (0, b"\xff" * size, b"")
    assert connection.execute("cat; exit 3", data) == (3, data, b"")


@pytest.mark.slow
@without_bucket
def test_output_at_the_limit_comes_whole_or_is_refused(connect: Connect) -> None:
    """Random bytes about the most that 24,000 characters of base64 hold: never a cut."""
    connection = connect()
    whole = []
    for size in range(17_500, 18_001, 100):
        data = os.urandom(size)
        try:
            assert connection.execute("cat", data) == (0, data, b"")
            whole.append(size)
        except AnsibleError as error:
            assert f"{size} bytes" in str(error) and "ansible_ssm_bucket" in str(error)
    assert whole and whole[-1] < 18_000 and whole == list(range(17_500, whole[-1] + 1, 100))


@pytest.mark.slow
@by_run_command
def test_fifty_megabytes_each_way_in_little_memory(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    connection.execute("true")
    (mux,) = mux_processes(Path(os.environ["HOME"]))
    before = peak_memory(mux)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(1 << 20) * 50)
    connection.plugin.put_file(str(source), "/tmp/fifty")
    connection.plugin.fetch_file("/tmp/fifty", str(back))
    assert back.read_bytes() == source.read_bytes()
    status, stdout, _unused = connection.execute("cat /tmp/fifty; rm /tmp/fifty")
    assert (status, stdout) == (0, source.read_bytes())
    assert peak_memory(mux) - before <= 48 << 20
    began = time.monotonic()
    assert connection.execute("cat", source.read_bytes()) == (0, source.read_bytes(), b"")
    assert time.monotonic() - began < 120
