# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks with the callback: what is in the files, and that nothing of it ever hurts a play."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import connection_variables
from tests.integration.controller import REPOSITORY, Controller, Run
from tests.lab import Lab
from tests.tools.core_wheel import core_wheel

OUTPUTS = REPOSITORY / "plugins" / "plugin_utils" / "outputs"
SECRET = "x7-not-for-anyone-x7"
EXACT = "a\\377\\r\\n\\303\\274b"  # for printf


class Recorded:
    """A controller with the callback, and what it left of the last run."""

    def __init__(self, controller: Controller, lab: Lab, core: str | None = None) -> None:
        self.controller, self.lab = controller, lab
        if core:
            self._use(core)
        self.dest = controller.folder / "outputs"
        controller.environment.update(ANSIBLE_CALLBACKS_ENABLED="fleet.ssm.outputs", FLEET_SSM_OUTPUTS_DEST=str(self.dest))
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        controller.hosts({"web-1": connection_variables(lab, "web-1"), "localhost": local}, ansible_python_interpreter="/usr/bin/python3")

    def _use(self, core: str) -> None:
        """Run playbooks by that release of ansible-core."""
        self.controller.programs = self.controller.folder / "bin"
        self.controller.programs.mkdir()
        program = self.controller.programs / "ansible-playbook"
        program.write_text(f"#!{sys.executable}\nfrom ansible.cli.playbook import main\nmain()\n")
        program.chmod(0o755)
        self.controller.environment["PYTHONPATH"] = str(core_wheel(core))

    @property
    def folder(self) -> Path:
        (found,) = self.dest.iterdir()
        return found

    def index(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "index.jsonl").read_text(encoding="utf-8").splitlines()]

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return found

    def run_command(self, *arguments: str, play: dict[str, Any] | None = None, **options: Any) -> Run:
        node = self.lab.node("web-1")
        task = {"name": "Ask / them", "fleet.ssm.run_command": {"region": node.region, "instance_ids": [node.node_id], **options}}
        return self.controller.tasks(task, hosts="localhost", arguments=arguments, **(play or {}))


@pytest.fixture
def recorded(controller: Controller, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Recorded]:
    yield Recorded(controller, lab, core=getattr(request, "param", None))
    lab.clear_permissions()


OTHER_CORES = ["2.18", "2.19", "2.20"]
cores = pytest.mark.parametrize(
    "recorded", [None, *(pytest.param(release, marks=pytest.mark.slow) for release in OTHER_CORES)], indirect=True, ids=["installed", *OTHER_CORES]
)


@pytest.fixture
def bucket(lab: Lab) -> str:
    name = f"outputs-{uuid.uuid4().hex[:12]}"
    lab.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": lab.region})
    return name


@cores
def test_the_outputs_of_a_session_are_whole_and_exact(recorded: Recorded) -> None:
    recorded.controller.tasks(
        {"name": "Raw \"bytes\" / 'of' it", "ansible.builtin.raw": f"printf '{EXACT}'; printf 'err\\n' >&2"},
        {"name": "Twice", "ansible.builtin.command": "echo {{ item }}", "loop": ["a/b", "ü"]},
        {"name": "Twice", "ansible.builtin.shell": "echo long; yes 0123456789 | head -n 3000 >&2; exit 3", "ignore_errors": True},
        {"name": "Hidden", "ansible.builtin.command": f"echo {SECRET}", "no_log": True},
        {"name": "Hidden items", "ansible.builtin.command": "echo {{ item }}", "loop": [SECRET, SECRET + "2"], "no_log": True},
        {"name": "Not now", "ansible.builtin.command": "echo never", "when": False},
        hosts="web-1", name="Web / servers",
    ).check()  # fmt: skip
    files = {str(path.relative_to(recorded.folder)): path.read_bytes() for path in recorded.folder.rglob("std*")}
    play = "01-Web_servers"
    assert files == {
        f"{play}/001-Raw_bytes_of_it/web-1/stdout": b"a\xff\r\n\xc3\xbcb",
        f"{play}/001-Raw_bytes_of_it/web-1/stderr": b"err\n",
        f"{play}/002-Twice/web-1/001-a_b/stdout": b"a/b",
        f"{play}/002-Twice/web-1/001-a_b/stderr": b"",
        f"{play}/002-Twice/web-1/002-ü/stdout": "ü".encode(),
        f"{play}/002-Twice/web-1/002-ü/stderr": b"",
        f"{play}/003-Twice/web-1/stdout": b"long",
        f"{play}/003-Twice/web-1/stderr": b"0123456789\n" * 2999 + b"0123456789",
    }
    assert not any(SECRET.encode() in path.read_bytes() for path in recorded.folder.rglob("*") if path.is_file())
    assert not list(recorded.folder.rglob(".*")), "nothing is gathered, so there is no process for it"
    hidden = [line for line in recorded.index() if line.get("censored")]  # a loop's items are hidden one by one, by older releases all in one
    assert {(line["task"], line["status"]) for line in hidden} == {("Hidden", "ok"), ("Hidden items", "ok")}
    lines = [line for line in recorded.index() if not line.get("censored")]
    assert [line["status"] for line in lines] == ["ok", "ok", "ok", "failed", "skipped"]
    assert {line.get("route") for line in lines} == {"session"} and lines[3]["rc"] == 3 and lines[3]["ignored"]
    report = recorded.report()
    assert (report["totals"]["errors"], report["totals"]["ignored"], report["totals"]["skipped"]) == (0, 1, 1)
    assert report["api"]["mux"] and report["run"]["playbook"] == "playbook.yml" and report["run"]["seconds"] > 0
    (failure,) = report["failures"]
    assert failure["stderr"]["left_out"] == 2999 * 11 + 10 - 4000 and failure["stderr"]["text"].endswith("0123456789")
    assert oct((recorded.folder / play / "003-Twice" / "web-1" / "stderr").stat().st_mode)[-3:] == "600"


@pytest.mark.slow
def test_the_route_is_the_one_that_was_taken_wherever_it_is_set(recorded: Recorded) -> None:
    recorded.controller.environment["FLEET_SSM_ROUTE"] = "run_command"
    here = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    recorded.controller.tasks(
        {"name": "Here", "ansible.builtin.command": "true", "vars": here},
        {"name": "By the environment", "ansible.builtin.command": "true"},
        {"name": "By the task", "ansible.builtin.command": "true", "vars": {"ansible_ssm_route": "{{ 'session' }}"}},
        hosts="web-1",
    ).check()  # fmt: skip
    assert {line["task"]: line["route"] for line in recorded.index()} == {"Here": "local", "By the environment": "run_command", "By the task": "session"}


@cores
def test_the_outputs_of_run_command_come_from_s3_while_the_display_is_cut(recorded: Recorded, bucket: str) -> None:
    node = recorded.lab.node("web-1").node_id
    command = f"yes 0123456789 | head -n 3000; printf '{EXACT}'; printf err >&2"
    run = recorded.run_command(commands=[command], s3_bucket=bucket, s3_prefix="runs", play={"name": "Fleet"}).check()
    folder = recorded.folder / "01-Fleet" / "001-Ask_them" / node
    assert (folder / "stdout").read_bytes() == b"0123456789\n" * 3000 + b"a\xff\r\n\xc3\xbcb"
    assert (folder / "stderr").read_bytes() == b"err"
    carrier, line = sorted(recorded.index(), key=lambda found: found["host"] != "localhost")
    assert carrier["nodes"] == 1 and carrier["calls"]["total"] > 0
    assert (line["host"], line["status"], line["rc"], line["route"]) == (node, "ok", 0, "run_command")
    assert line["stdout"]["uris"][0].startswith(f"s3://{bucket}/runs/") and line["stdout"]["whole"]
    assert f"stdout of {node} is cut here; whole: {folder}/stdout, from s3://{bucket}/runs/" in run.stderr
    report = recorded.report()
    assert report["totals"]["results"] == 1 and report["gathering"]["objects"] == 2 and report["totals"]["routes"] == {"run_command": 1}
    assert run.report["stats"], "callbacks that own stdout are left alone"


@pytest.mark.slow
def test_the_outputs_of_several_steps_are_kept_in_their_order(recorded: Recorded, bucket: str) -> None:
    lines = {"one": "seq -f first-%.0f 1000", "two": "true", "three": "seq -f third-%.0f 1000; echo err >&2", "four": "true"}
    steps = [{"action": "aws:runShellScript", "name": name, "inputs": {"runCommand": [line]}} for name, line in lines.items()]
    content = {"schemaVersion": "2.2", "description": "four steps", "mainSteps": steps}
    recorded.lab.client("ssm").create_document(Name="Fleet-FourSteps", DocumentType="Command", Content=json.dumps(content))
    recorded.run_command(document="Fleet-FourSteps", s3_bucket=bucket, play={"name": "Fleet"}).check()
    folder = recorded.folder / "01-Fleet" / "001-Ask_them" / recorded.lab.node("web-1").node_id
    assert (folder / "stdout").read_text() == "".join(f"{word}-{number}\n" for word in ("first", "third") for number in range(1, 1001))
    assert (folder / "stderr").read_bytes() == b"err\n"
    (line,) = (found for found in recorded.index() if "node" in found)
    assert [uri.rpartition("/awsrunShellScript/")[2] for uri in line["stdout"]["uris"]] == ["one/stdout", "three/stdout"]


@pytest.mark.slow
def test_what_is_refused_now_is_gathered_later(recorded: Recorded, bucket: str) -> None:
    recorded.lab.deny("s3:GetObject")
    run = recorded.run_command(commands=["echo hello"], s3_bucket=bucket).check()
    assert "The outputs of 1 nodes are missing or incomplete" in run.stderr.replace("\n", " ")
    (problem,) = recorded.report()["gathering"]["problems"]
    assert problem["kind"] == "denied" and "403: s3:GetObject on" in problem["text"]
    assert "403: s3:GetObject on" in (recorded.folder / "report.html").read_text(encoding="utf-8")
    command = [sys.executable, str(OUTPUTS), "gather", "--late-seconds", "0", str(recorded.folder)]
    environment = {**recorded.controller.environment, "HOME": str(recorded.controller.home)}
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 1
    recorded.lab.clear_permissions()
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(recorded.folder / "report.html")
    assert recorded.report()["gathering"]["problems"] == []
    (stdout,) = (recorded.folder / line["stdout"]["file"] for line in recorded.index() if "node" in line)
    assert stdout.read_bytes() == b"hello\n"


def test_nothing_of_a_task_with_no_log_is_gathered(recorded: Recorded, bucket: str) -> None:
    node = recorded.lab.node("web-1")
    options = {"region": node.region, "instance_ids": [node.node_id], "commands": [f"echo {SECRET}"], "s3_bucket": bucket}
    recorded.controller.tasks({"name": "Hidden", "fleet.ssm.run_command": options, "no_log": True}, hosts="localhost").check()
    assert [(line["host"], line["censored"]) for line in recorded.index()] == [("localhost", True)]
    assert not any(SECRET.encode() in path.read_bytes() for path in recorded.folder.rglob("*") if path.is_file())


def test_names_of_runs_and_uploads_are_made_of_job_date_and_playbook(recorded: Recorded, bucket: str) -> None:
    (recorded.controller.folder / "ansible.cfg").write_text(f"[fleet_ssm_outputs]\nupload = s3://{bucket}/{{job_id}}/{{playbook}}/\nupload_what = all\n")
    run = recorded.controller.tasks({"name": "Say", "ansible.builtin.command": "echo hello"}, hosts="localhost", name="P",
                                    arguments=("-e", "awx_job_id=4711", "-e", "fleet_ssm_outputs_run={job_id}-night")).check()  # fmt: skip
    assert recorded.folder.name == "4711-night" and recorded.report()["run"]["job_id"] in (4711, "4711")
    found = recorded.lab.client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    prefix = "4711/playbook/"
    names = ("index.jsonl", "report.html", "report.json", "run.json", "01-P/001-Say/localhost/stdout", "01-P/001-Say/localhost/stderr")
    assert {entry["Key"] for entry in found} == {prefix + name for name in names}
    assert f"6 files uploaded to s3://{bucket}/4711/playbook/" in run.stderr
    head = recorded.lab.client("s3").head_object(Bucket=bucket, Key=prefix + "report.html")
    assert head["ContentType"] == "text/html; charset=utf-8"


def break_dest(recorded: Recorded) -> None:
    recorded.dest.write_text("a file")


def break_run(recorded: Recorded) -> None:
    recorded.controller.environment["FLEET_SSM_OUTPUTS_RUN"] = "{hosts}"


@pytest.mark.parametrize(("breakage", "words"), [(break_dest, "File exists"), (break_run, "has the placeholder {hosts}")])
def test_a_play_goes_on_without_us_after_one_warning(recorded: Recorded, breakage: Callable[[Recorded], None], words: str) -> None:
    breakage(recorded)
    task = {"name": "Say", "ansible.builtin.command": "echo hello"}
    run = recorded.controller.tasks(task, {**task, "name": "Again"}, hosts="localhost").check()
    said = run.stderr.replace("\n", " ")
    assert run.result("Again")["stdout"] == "hello"
    assert said.count("fleet.ssm.outputs:") == 1 and words in said


def test_it_is_off_unless_it_is_enabled(recorded: Recorded) -> None:
    del recorded.controller.environment["ANSIBLE_CALLBACKS_ENABLED"]
    recorded.controller.tasks({"name": "Say", "ansible.builtin.command": "echo hello"}, hosts="localhost").check()
    assert not recorded.dest.exists()
