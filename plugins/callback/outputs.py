# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: outputs
type: aggregate
author:
  - The fleet.ssm maintainers (@fleet-ssm)
version_added: 0.1.0
short_description: keep the full outputs of every task and host, and report on the run
description:
  - Writes what each task printed on each host into files of their own, C(DEST/RUN/PLAY/TASK/HOST/stdout) and C(stderr), and one index of JSON lines.
    It works with any connection, and beside any other callback, that of AWX included.
  - For M(fleet.ssm.run_command) it gathers each node's full output from S3, in a process of its own while the playbook goes on. It waits for
    objects that are late. What cannot be had is named in the index and the report, and can be gathered later.
  - At the end it writes a report, as JSON and as one HTML page without any external resource - error ratio by task, durations by task and host,
    throughput, slowest hosts, every failure with its output, routes, AWS calls and throttles.
  - Outputs of tasks with C(no_log) are neither written nor gathered.
  - Whatever goes wrong here, the play goes on. If nothing can be written, the plugin says so once and is silent from then on.
notes:
  - Enable it with C(callbacks_enabled = fleet.ssm.outputs) in C(ansible.cfg), or E(ANSIBLE_CALLBACKS_ENABLED).
  - Variables are those of C(--extra-vars), as with all callbacks.
  - Bytes are those that the task's result holds. Modules such as M(ansible.builtin.command) cut newlines at the end, unless they are told not to.
  - Files and folders are readable by their owner only.
requirements:
  - botocore, if there is something to gather or to upload
options:
  dest:
    description: The folder of all runs.
    type: path
    default: ~/.ansible/fleet_ssm/outputs
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_dest
    env:
      - name: FLEET_SSM_OUTPUTS_DEST
    ini:
      - section: fleet_ssm_outputs
        key: dest
  run:
    description:
      - The name of the run's folder below O(dest). If there is one, C(~2) and so on is added.
      - "Placeholders are C({date}), C({time}), C({playbook}) and C({job_id}), see O(job_id)."
    type: str
    default: "{date}T{time}-{playbook}"
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_run
    env:
      - name: FLEET_SSM_OUTPUTS_RUN
    ini:
      - section: fleet_ssm_outputs
        key: run
  job_id:
    description:
      - A name for the job, in the report and in O(run) and O(upload). AWX and GitLab set it by themselves.
    type: str
    version_added: 0.1.0
    vars:
      - name: tower_job_id
      - name: awx_job_id
      - name: fleet_ssm_outputs_job_id
    env:
      - name: CI_JOB_ID
      - name: JOB_ID
      - name: FLEET_SSM_OUTPUTS_JOB_ID
    ini:
      - section: fleet_ssm_outputs
        key: job_id
  report:
    description: Whether to write C(report.json) and C(report.html) at the end.
    type: bool
    default: true
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_report
    env:
      - name: FLEET_SSM_OUTPUTS_REPORT
    ini:
      - section: fleet_ssm_outputs
        key: report
  report_failures:
    description: The most failures that the report tells with their output. The index has all.
    type: int
    default: 500
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_report_failures
    env:
      - name: FLEET_SSM_OUTPUTS_REPORT_FAILURES
    ini:
      - section: fleet_ssm_outputs
        key: report_failures
  report_output:
    description: Bytes of each stream of a failure in the report, from its end. Where that is not all, the report names the file and the URI.
    type: int
    default: 4000
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_report_output
    env:
      - name: FLEET_SSM_OUTPUTS_REPORT_OUTPUT
    ini:
      - section: fleet_ssm_outputs
        key: report_output
  display:
    description: Whether to say on the screen where the whole is of an output that is cut there, and where the report is.
    type: bool
    default: true
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_display
    env:
      - name: FLEET_SSM_OUTPUTS_DISPLAY
    ini:
      - section: fleet_ssm_outputs
        key: display
  connections:
    description: Objects that are read from S3 at once, and files that are uploaded at once.
    type: int
    default: 16
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_connections
    env:
      - name: FLEET_SSM_OUTPUTS_CONNECTIONS
    ini:
      - section: fleet_ssm_outputs
        key: connections
  late_seconds:
    description:
      - Seconds for which an object is waited for that is not in S3 yet.
      - Where stdout fills what the service's listing holds, nothing is known of stderr. It is waited for as long, and is empty if it has not come then.
    type: float
    default: 30
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_late_seconds
    env:
      - name: FLEET_SSM_OUTPUTS_LATE_SECONDS
    ini:
      - section: fleet_ssm_outputs
        key: late_seconds
  gather_timeout:
    description:
      - Seconds that gathering may take after the last task. What is missing then can be gathered later, see the example.
    type: float
    default: 900
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_gather_timeout
    env:
      - name: FLEET_SSM_OUTPUTS_GATHER_TIMEOUT
    ini:
      - section: fleet_ssm_outputs
        key: gather_timeout
  upload:
    description:
      - Where to upload to at the end, such as V(s3://reports/{job_id}/{date}/{playbook}).
      - Placeholders are those of O(run), and C({run}) itself.
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_upload
    env:
      - name: FLEET_SSM_OUTPUTS_UPLOAD
    ini:
      - section: fleet_ssm_outputs
        key: upload
  upload_what:
    description: V(report) uploads the report and the index, V(all) outputs, too.
    type: str
    choices: [report, all]
    default: report
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_upload_what
    env:
      - name: FLEET_SSM_OUTPUTS_UPLOAD_WHAT
    ini:
      - section: fleet_ssm_outputs
        key: upload_what
  profile:
    description:
      - The profile whose credentials read from S3 and upload. Unless it is set, credentials are found as every AWS SDK does.
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_profile
    env:
      - name: FLEET_SSM_OUTPUTS_PROFILE
    ini:
      - section: fleet_ssm_outputs
        key: profile
  access_key:
    description: The access key. Needs O(secret_key), excludes O(profile).
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_access_key
    env:
      - name: FLEET_SSM_OUTPUTS_ACCESS_KEY
    ini:
      - section: fleet_ssm_outputs
        key: access_key
  secret_key:
    description: The secret key of O(access_key).
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_secret_key
    env:
      - name: FLEET_SSM_OUTPUTS_SECRET_KEY
    ini:
      - section: fleet_ssm_outputs
        key: secret_key
  session_token:
    description: The session token of a temporary O(access_key).
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_session_token
    env:
      - name: FLEET_SSM_OUTPUTS_SESSION_TOKEN
    ini:
      - section: fleet_ssm_outputs
        key: session_token
  role_arn:
    description: A role to assume with these credentials.
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_role_arn
    env:
      - name: FLEET_SSM_OUTPUTS_ROLE_ARN
    ini:
      - section: fleet_ssm_outputs
        key: role_arn
  external_id:
    description: The external id that the trust policy of O(role_arn) demands.
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_external_id
    env:
      - name: FLEET_SSM_OUTPUTS_EXTERNAL_ID
    ini:
      - section: fleet_ssm_outputs
        key: external_id
  region:
    description: The region of the bucket of O(upload). Those of outputs are known from their addresses.
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_region
    env:
      - name: FLEET_SSM_OUTPUTS_REGION
    ini:
      - section: fleet_ssm_outputs
        key: region
  endpoint_url:
    description: The URL of S3 (and of STS for O(role_arn)), if not AWS's own.
    type: str
    version_added: 0.1.0
    vars:
      - name: fleet_ssm_outputs_endpoint_url
    env:
      - name: FLEET_SSM_OUTPUTS_ENDPOINT_URL
    ini:
      - section: fleet_ssm_outputs
        key: endpoint_url
  control_path_dir:
    description:
      - The folder of the mux's socket, as P(fleet.ssm.ssm#connection) has it. The mux is asked for its AWS calls, and never started for that.
    type: str
    default: ~/.ansible/cp
    version_added: 0.1.0
    vars:
      - name: ansible_ssm_control_path_dir
    env:
      - name: FLEET_SSM_CONTROL_PATH_DIR
    ini:
      - section: fleet_ssm
        key: control_path_dir
"""

EXAMPLES = r"""
ansible.cfg: |
  [defaults]
  callbacks_enabled = fleet.ssm.outputs

  [fleet_ssm_outputs]
  dest = /var/lib/fleet/outputs
  upload = s3://fleet-reports/{job_id}/{date}/{playbook}

ansible.cfg of an AWX project: |
  [defaults]
  callbacks_enabled = fleet.ssm.outputs

  [fleet_ssm_outputs]
  dest = /tmp/outputs
  upload = s3://fleet-reports/{job_id}
  upload_what = all

for one run: |
  ansible-playbook site.yml -e fleet_ssm_outputs_run=release-42

go on with a gathering that was interrupted: |
  python ~/.ansible/collections/ansible_collections/fleet/ssm/plugins/plugin_utils/outputs gather /var/lib/fleet/outputs/RUN
"""

import os
import traceback
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader
from ansible.release import __version__ as ansible_version
from ansible.template import Templar

from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.recorder import Finished, Recorder
from ansible_collections.fleet.ssm.plugins.plugin_utils.outputs.results import ON_CONTROLLER, short_action

_CONNECTION = "ansible_connection"
_ROUTE = "ansible_ssm_route"
_OPTIONS = (
    "dest", "run", "job_id", "report", "report_failures", "report_output", "display", "connections", "late_seconds", "gather_timeout", "upload",
    "upload_what", "profile", "access_key", "secret_key", "session_token", "role_arn", "external_id", "region", "endpoint_url", "control_path_dir",
)  # fmt: skip


class CallbackModule(CallbackBase):
    """Tells a recorder what happens, in plain words."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "fleet.ssm.outputs"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self._recorder: Recorder | None = None
        self._playbook = "ad-hoc"
        self._play: t.Any = None
        self._routes: dict[str, dict[str, str | None]] = {}  # by host, and by what a task says of it

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Nothing that goes wrong here is worth a play."""
        try:
            yield
        except Exception as error:
            self.disabled = True
            self._display.warning(f"fleet.ssm.outputs: {error or type(error).__name__}. The plugin is off for the rest of this run; the play goes on.")
            self._display.vvv(traceback.format_exc())
            if self._recorder is not None:
                self._recorder.close()

    def _say(self, text: str) -> None:
        if self.get_option("display"):
            self._display.display(f"[outputs] {text}", color="blue", stderr=True)  # callbacks such as json own stdout

    # What core tells

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        self._playbook = os.path.basename(playbook._file_name)

    def v2_playbook_on_play_start(self, play: t.Any) -> None:
        with self._harmless():
            if self._recorder is None:
                options = {name: self.get_option(name) for name in _OPTIONS}
                facts = {"playbook": self._playbook, "ansible_version": ansible_version, "check_mode": bool((context.CLIARGS or {}).get("check"))}
                self._recorder = Recorder(options, facts, say=self._say, warn=self._display.warning)
            self._play = play
            self._routes = {}
            self._recorder.begin_play(play._uuid, play.get_name().strip())

    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        with self._harmless():
            if self._recorder is not None:
                self._recorder.begin_host(task._uuid, host.get_name())

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._finish(result, "ok")

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._finish(result, "failed", ignored=bool(ignore_errors))

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._finish(result, "unreachable", ignored=bool(result._task.ignore_unreachable))

    def v2_runner_on_skipped(self, result: t.Any) -> None:
        self._finish(result, "skipped")

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        with self._harmless():
            if self._recorder is not None:
                page = self._recorder.finish()
                if page:
                    self._say(f"report: {page}")
                self._recorder.close()

    def _finish(self, result: t.Any, status: str, *, ignored: bool = False) -> None:
        with self._harmless():
            if self._recorder is not None:
                # The names with an underscore are those that core has had all along.
                task, host = result._task, result._host
                finished = Finished(host.get_name(), status, result._result, ignored, self._route(task, host, result._result))
                self._recorder.finish_host(task._uuid, task.get_name().strip(), str(task.action), finished)

    # How the task came to the node

    def _route(self, task: t.Any, host: t.Any, result: t.Any) -> str | None:
        if short_action(str(task.action)) in ON_CONTROLLER:
            return None
        if task.delegate_to:
            delegate = (result.get("_ansible_delegated_vars") or {}).get("ansible_delegated_host")
            return "local" if delegate == "localhost" else next(iter(self._routes.get(str(delegate), {}).values()), None)
        own = task.get_vars()
        known, said = self._routes.setdefault(host.get_name(), {}), str((task.connection, own.get(_CONNECTION), own.get(_ROUTE)))
        if said not in known:
            known[said] = self._find_route(task, host)
        return known[said]

    def _find_route(self, task: t.Any, host: t.Any) -> str | None:
        """By the connection of a host, asked once a play unless a task says something else: variables first, then what the task and the command line say."""
        variables = self._play.get_variable_manager().get_vars(play=self._play, host=host, task=task, include_hostvars=False)
        templar = Templar(loader=self._play._loader, variables=variables)
        try:
            connection = str(templar.template(variables.get(_CONNECTION) or task.connection)).removeprefix("ansible.builtin.")
            chosen = {_ROUTE: templar.template(variables[_ROUTE])} if _ROUTE in variables else {}
        except AnsibleError:  # a variable that only tasks know
            return None
        if connection != "fleet.ssm.ssm":
            return connection
        plugin = connection_loader.get(connection, class_only=True)._load_name  # core knows its options by that name once it is loaded
        route = C.config.get_config_value("route", plugin_type="connection", plugin_name=plugin, variables=chosen)
        return "run_command" if route == "run_command" else "session"
