# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is particular about the route run_command; what it has in common with the session is in the other files, marked for both."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from tests.integration.conftest import BUCKET, connection_variables
from tests.integration.controller import Controller, stop_mux
from tests.integration.direct import DirectConnection
from tests.integration.routes import RUN_COMMAND, WITHOUT_BUCKET, by_run_command, without_bucket
from tests.integration.test_policies import OPERATOR, actions, denied, policy
from tests.integration.waiting import eventually
from tests.lab import Lab
from tests.lab.dispatch import iam_action

Connect = Callable[..., DirectConnection]


@without_bucket
@pytest.mark.parametrize("status", [194, *(pytest.param(status, marks=pytest.mark.slow) for status in (137, 168, 169))])
def test_a_status_that_means_something_to_the_agent_is_the_commands_own(connect: Connect, status: int) -> None:
    assert connect().execute(f"echo once; exit {status}") == (status, b"once\n", b"")


@without_bucket
def test_what_fits_needs_no_bucket(connect: Connect) -> None:
    data = os.urandom(17_000)
    assert connect().execute("cat", data) == (0, data, b"")


@without_bucket
def test_output_that_is_too_long_is_an_error_that_says_what_to_configure(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    with pytest.raises(AnsibleError, match=r"status 3.*30000 bytes.*ansible_ssm_bucket"):
        connection.execute("head -c 30000 /dev/urandom; exit 3")
    with pytest.raises(AnsibleError, match="ansible_ssm_bucket"):
        connection.plugin.fetch_file("/bin/ls", str(tmp_path / "ls"))


@without_bucket
def test_a_file_goes_in_several_commands_without_a_bucket(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(80_000))
    connection.plugin.put_file(str(source), "/tmp/in-pieces")
    assert connection.execute("sha256sum </tmp/in-pieces")[1].split()[0].decode() == hashlib.sha256(source.read_bytes()).hexdigest()
    assert connection.execute("ls /var/lib/fleet-ssm/blobs | grep -c -- -; ls /var/lib/fleet-ssm")[1].startswith(b"0\n")
    source.write_bytes(os.urandom(3_000_000))
    with pytest.raises(AnsibleError, match="ansible_ssm_bucket"):
        connection.plugin.put_file(str(source), "/tmp/never")


@by_run_command
def test_the_bucket_is_empty_afterwards(lab: Lab, connect: Connect) -> None:
    data = os.urandom(200_000)
    assert connect().execute("cat", data) == (0, data, b"")
    eventually(lambda: lab.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", []) == [])


@without_bucket
def test_secrets_are_refused_without_a_bucket_unless_accepted(lab: Lab, controller: Controller) -> None:
    task = {"ansible.builtin.command": "echo swordfish", "no_log": True, "ignore_errors": True}
    run = controller.tasks({"name": "refused", **task}, {"name": "accepted", **task, "vars": {"ansible_ssm_expose_secrets": True}}).check()
    assert run.result("refused").get("failed") is True
    assert not run.result("accepted").get("failed")


@by_run_command
def test_secrets_go_through_the_bucket_and_stand_in_no_parameter_or_output(lab: Lab, controller: Controller) -> None:
    mark = os.urandom(8).hex()
    before = time.time()
    task = {"name": "secret", "ansible.builtin.shell": f"printf %s {mark} >/tmp/{mark[:4]}; echo {mark}", "no_log": True}
    run = controller.tasks(task, {"name": "look", "ansible.builtin.raw": f"sha256sum /tmp/{mark[:4]}"}).check()
    assert run.result("look")["stdout"].split()[0] == hashlib.sha256(mark.encode()).hexdigest()
    told = _told(lab, before)
    assert "sha256sum" in told and mark not in told


@by_run_command
def test_a_secret_file_that_is_fetched_stands_in_no_output(lab: Lab, controller: Controller, tmp_path: Path) -> None:
    mark = os.urandom(8).hex()
    lab.node("web-1").run(f"printf %s {mark} >/tmp/fetched-secret")
    before = time.time()
    controller.tasks({"name": "fetch", "ansible.builtin.fetch": {"src": "/tmp/fetched-secret", "dest": f"{tmp_path}/", "flat": True}, "no_log": True}).check()
    assert (tmp_path / "fetched-secret").read_text() == mark
    assert mark not in _told(lab, before)


@without_bucket
def test_a_secret_file_is_not_fetched_without_a_bucket(connect: Connect, tmp_path: Path) -> None:
    connection = connect()
    connection.plugin.set_options(task_keys={"no_log": True}, var_options=connection.variables)
    with pytest.raises(AnsibleError, match=r"set the option bucket.*expose_secrets.*Nothing was run"):
        connection.plugin.fetch_file("/etc/hostname", str(tmp_path / "never"))


@by_run_command
def test_no_input_stands_in_parameters_where_there_is_a_bucket(lab: Lab, controller: Controller) -> None:
    """Modules take secrets of which no task says no_log. Command lines may be read; and all, where that is accepted."""
    mark, accepted = os.urandom(8).hex(), os.urandom(8).hex()
    tasks: list[dict[str, Any]] = [
        {"name": "argument", "ansible.builtin.stat": {"path": f"/{mark}"}},
        {"name": "file", "ansible.builtin.copy": {"content": mark, "dest": "/tmp/no-secret", "mode": "0600"}},
        {"name": "line", "ansible.builtin.raw": "cat /tmp/no-secret"},
        {"name": "accepted", "ansible.builtin.stat": {"path": f"/{accepted}"}, "vars": {"ansible_ssm_expose_secrets": True}},
    ]
    before = time.time()
    run = controller.tasks(*tasks).check()
    assert run.result("line")["stdout"] == mark
    told = _told(lab, before, outputs=False)
    assert mark not in told
    assert "cat /tmp/no-secret" in told and accepted in told


def _told(lab: Lab, since: float, *, outputs: bool = True) -> str:
    """All that anyone may read of the commands since then, decoded as far as it is ours."""
    client = lab.client("ssm")
    texts = []
    for command in client.list_commands(MaxResults=50)["Commands"]:
        if command["RequestedDateTime"].timestamp() >= since:
            texts += [*command["Parameters"]["commands"]]
            for entry in client.list_command_invocations(CommandId=command["CommandId"], Details=True)["CommandInvocations"] if outputs else ():
                texts += [step["Output"] for step in entry["CommandPlugins"]]
    for line in "\n".join(texts).splitlines():
        if re.fullmatch(r"[A-Za-z0-9+/]{16,}=*", line):
            texts.append(gzip.decompress(base64.b64decode(line)).decode("latin-1"))
    return "\n".join(texts)


@by_run_command
def test_a_cancelled_command_ends_on_the_node(lab: Lab, connect: Connect) -> None:
    connection, node = connect(), lab.node("web-1")
    seconds = f"301.{int.from_bytes(os.urandom(2))}"
    running = f"pgrep -f '[s]leep {seconds}'"
    connection.plugin._connect()
    exchange = connection.plugin._client.exec(f"exec sleep {seconds}")
    exchange.end_input()
    while node.run(running, check=False).returncode:
        assert exchange.next_event(timeout=0.1) is None
    exchange.cancel()
    with pytest.raises(Exception, match="cancelled"):
        while exchange.next_event(timeout=30) is not None:
            pass
    eventually(lambda: node.run(running, check=False).returncode != 0, 10)


@without_bucket
def test_a_node_that_is_not_there_is_unreachable(lab: Lab, connect: Connect) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="i-0123456789abcdef0"):
        connect(ansible_ssm_instance_id="i-0123456789abcdef0").execute("true")


def _batches(lab: Lab, controller: Controller, tasks: list[dict[str, Any]], *, route: str = WITHOUT_BUCKET, **of_first: str) -> tuple[int, list[int]]:
    """How many nodes there are, and how many each SendCommand of a play was for.

    :param of_first: variables of the first host alone.
    """
    # Those of the demo; other tests have brought some that are stopped, or have no Python.
    nodes = [node.name for node in lab.nodes() if node.name.startswith(("web-", "db-")) and (node.account, node.region) == (lab.account, lab.region)]
    assert len(nodes) > 1
    hosts = {name: connection_variables(lab, name, route) for name in nodes}
    hosts[nodes[0]].update(of_first)
    controller.hosts(hosts, ansible_python_interpreter="/usr/bin/python3")
    before = time.time()
    controller.tasks(*tasks, arguments=("--forks", "10"), strategy="linear").check()
    commands = lab.client("ssm").list_commands()["Commands"]
    return len(nodes), [len(command["InstanceIds"]) for command in commands if command["RequestedDateTime"].timestamp() >= before]


@without_bucket
def test_hosts_with_the_same_task_share_a_command(lab: Lab, controller: Controller) -> None:
    tasks = [{"name": "one", "ansible.builtin.command": "echo {{ inventory_hostname }}"}, {"name": "two", "ansible.builtin.command": "hostname"}]
    nodes, batches = _batches(lab, controller, tasks)
    assert max(batches) == nodes


@by_run_command
def test_the_input_of_hosts_that_share_a_command_is_one_object(lab: Lab, controller: Controller) -> None:
    task = {"name": "same", "ansible.builtin.command": "hostname"}
    _batches(lab, controller, [task], route=RUN_COMMAND)  # they keep the module's code
    lab.reset_requests()
    nodes, batches = _batches(lab, controller, [task], route=RUN_COMMAND)
    assert max(batches) == nodes and lab.requests().counts["s3:PutObject"] == len(batches)


@without_bucket
def test_a_host_whose_worker_is_late_shares_it_too(lab: Lab, controller: Controller) -> None:
    """It is known that there is one more, where a pause alone would end the batch."""
    late = "{{ lookup('ansible.builtin.pipe', 'sleep 0.4; echo late') }}"
    tasks = [{"name": "first", "ansible.builtin.command": "hostname"}, {"name": "second", "ansible.builtin.command": "echo {{ what | default('late') }}"}]
    nodes, batches = _batches(lab, controller, tasks, what=late)
    assert batches.count(nodes) >= 2


def _queues(lab: Lab) -> list[Any]:
    return list(lab.client("sqs").list_queues(QueueNamePrefix="fleet-ssm-mux-").get("QueueUrls", []))


@without_bucket
def test_events_tell_the_end_and_the_queue_goes_with_the_mux(lab: Lab, own_connect: Connect, topic: str) -> None:
    lab.client("sqs").create_queue(QueueName="fleet-ssm-mux-1700000000-leftover")
    connection = own_connect(ansible_ssm_events_topic=topic)
    assert connection.execute("echo first")[1] == b"first\n"
    assert len(_queues(lab)) == 1
    lab.reset_requests()
    assert connection.execute("sleep 2; echo done")[1] == b"done\n"
    assert lab.requests().counts["ssm:ListCommandInvocations"] == 1
    stop_mux(Path(os.environ["HOME"]), lab.env())
    assert _queues(lab) == []


@without_bucket
def test_the_policy_for_events_is_enough_and_all_of_it_is_called(lab: Lab, own_connect: Connect, topic: str) -> None:
    lab.client("sqs").create_queue(QueueName="fleet-ssm-mux-1700000000-leftover")
    for name in ("run_command", "events"):
        lab.policy(policy(name), principal=OPERATOR)
    lab.reset_requests()
    try:
        assert own_connect(ansible_ssm_events_topic=topic).execute("sleep 1; echo done")[1] == b"done\n"
        stop_mux(Path(os.environ["HOME"]), lab.env())
        assert not denied(lab) and actions(policy("events")) <= {iam_action(action) for action in lab.requests().counts}
    finally:
        lab.clear_permissions()


@without_bucket
def test_an_answer_that_is_lost_after_acceptance_sends_nothing_twice(faults: Lab, connect: Connect) -> None:
    connection = connect()
    mark = os.urandom(4).hex()
    connection.execute("true")
    faults.lose_replies("ssm:SendCommand", count=1)
    assert connection.execute(f"echo run >>/tmp/{mark}; cat /tmp/{mark}")[1] == b"run\n"
    assert connection.execute(f"cat /tmp/{mark}")[1] == b"run\n"


@without_bucket
@pytest.mark.parametrize(
    "action", ["ssm:SendCommand", *(pytest.param(action, marks=pytest.mark.slow) for action in ("ssm:ListCommandInvocations", "ssm:GetCommandInvocation"))]
)
def test_throttling_is_waited_out(faults: Lab, connect: Connect, action: str) -> None:
    connection = connect()
    connection.execute("true")
    faults.fault_calls(action, status=400, code="ThrottlingException", count=2)
    data = os.urandom(4_000)
    assert connection.execute("cat", data)[1] == data


@pytest.mark.slow
@without_bucket
def test_a_service_that_fails_for_a_while_loses_no_result(faults: Lab, connect: Connect) -> None:
    connection = connect()
    connection.execute("true")
    faults.fault_calls("ssm:ListCommandInvocations", status=500, code="InternalServerError", count=3)
    assert connection.execute("echo there")[1] == b"there\n"


@without_bucket
def test_windows_is_refused_and_the_module_is_named(lab: Lab, connect: Connect) -> None:
    (node,) = lab.add({"name": "win", "kind": "simulated", "platform_type": "Windows"})
    try:
        with pytest.raises(AnsibleError, match=r"Windows.*fleet\.ssm\.run_command"):
            connect(ansible_ssm_instance_id=node.node_id).execute("true")
    finally:
        node.terminate()
