# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role, with nodes that really run commands, and what comes of it.

Most tests bring it about without ansible-playbook: Ansible's own templates fill in the role's variables and the arguments of its tasks, and
the role's module is called here. A playbook's start would cost more than all that. That the playbook does the same is for the slow tests and
for the molecule scenario.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.integration.controller import REPOSITORY, Controller, Run
from tests.integration.modules.inside import run_module
from tests.lab import Lab

HUB, OTHER = "111111111111", "222222222222"
HOME, AWAY = "eu-central-1", "us-east-1"
BUCKET, NAME = "company-outputs", "fleet-ssm-outputs"
ROLE = REPOSITORY / "roles" / "output_store"
PLAYBOOKS = REPOSITORY / "playbooks"
"""Its examples are what is tested: their variables name the lab's accounts and regions."""

_FILES = (ROLE / "defaults" / "main.yml", ROLE / "vars" / "main.yml", PLAYBOOKS / "vars" / "output_store.yml")
_MODULE = "fleet.ssm.account_resources"
_ALWAYS: dict[str, Any] = {"output_store_settle_seconds": 1}


class Deployment:
    """A store that was made, and what it tells."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self._controller = Controller(folder, lab.env())
        self._controller.hosts({"localhost": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}})

    # Bringing it about

    def apply(self, *, check: bool = False, diff: bool = False, **variables: Any) -> list[dict[str, Any]]:
        """Results of the role's two tasks, in their order."""
        results: list[dict[str, Any]] = []
        made: dict[str, Any] = {}
        for name in ("home.yml", "members.yml") if variables.get("output_store_state") != "absent" else ("members.yml", "home.yml"):
            result = run_module("account_resources", self._arguments(name, {**variables, **made}), self.lab.env(), check=check, diff=diff)
            assert not result.get("failed"), result
            results.append(result)
            if name == "home.yml":
                made = {"__output_store_made": result}
        return results

    def _arguments(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Of the task in one of the role's files."""
        loader = DataLoader()
        known: dict[str, Any] = {"role_path": str(ROLE)}
        for path in _FILES:
            known.update(loader.load_from_file(str(path), trusted_as_template=True))
        (task,) = loader.load_from_file(str(ROLE / "tasks" / name), trusted_as_template=True)
        found: dict[str, Any] = Templar(loader=loader, variables={**known, **_ALWAYS, **variables}).template(task[_MODULE])
        return found

    def role(self, *arguments: str, **variables: Any) -> Run:
        """The role itself."""
        return self.playbook("output_store.yml", *arguments, **_ALWAYS, **variables)

    def playbook(self, name: str, *arguments: str, **variables: Any) -> Run:
        """An example."""
        words = ["-i", str(self._controller.inventory), str(PLAYBOOKS / name), "--extra-vars", json.dumps(variables), *arguments]
        return Run.of(self._controller.start("ansible-playbook", *words))

    # What comes of it

    def run(self, name: str, script: str, bucket: str = BUCKET) -> tuple[Any, str]:
        """A command on a node, as an operator sends it."""
        node = self.lab.node(name)
        document = "AWS-RunPowerShellScript" if node.kind == "windows" else "AWS-RunShellScript"
        sent = self.lab.client("ssm", account=node.account, region=node.region).send_command(
            InstanceIds=[node.node_id], DocumentName=document, Parameters={"commands": [script]},
            OutputS3BucketName=bucket, OutputS3KeyPrefix=f"{node.account}/{node.region}", OutputS3Region=HOME,
        )  # fmt: skip
        return node, sent["Command"]["CommandId"]

    def messages(self, seconds: float = 0.0, count: int = 1, queue: str = f"{NAME}-completions") -> list[dict[str, Any]]:
        """So many messages, or what came within the time; and whatever else is there then."""
        sqs = self.lab.client("sqs", region=HOME)
        url, found, deadline = sqs.get_queue_url(QueueName=queue)["QueueUrl"], [], time.monotonic() + seconds
        while True:
            messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            for message in messages:
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            if not messages and (len(found) >= count or time.monotonic() >= deadline):
                return found
            time.sleep(0.05)

    def log(self) -> list[dict[str, Any]]:
        """What the function wrote."""
        logs = self.lab.client("logs", region=HOME)
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{NAME}")["events"]
        lines = [line for event in events for line in event["message"].splitlines()]
        return [json.loads(line) for line in lines if line.startswith('{"outcome"')]

    def objects(self, bucket: str = BUCKET) -> list[str]:
        """Their keys."""
        return [entry["Key"] for entry in self.lab.client("s3", region=HOME).list_objects_v2(Bucket=bucket).get("Contents", [])]


def actions(results: list[dict[str, Any]]) -> list[str]:
    """What was done, or would be, to each resource in each place."""
    return [f"{each['action']} {each['kind']} {each['name']} {each['account_id']}" for result in results for each in result["resources"]]


def actions_of(run: Run) -> list[str]:
    """The same of a playbook's run that succeeded."""
    results = [result for _task, _host, result in run.check().tasks() if "resources" in result]
    assert len(results) == 2
    return actions(results)
