# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret in what is written down or shown: log, status, process list, Ansible's output at its most verbose, file names."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from tests.integration.conftest import connection_variables
from tests.integration.controller import Controller, stop_mux
from tests.lab import Lab

BECOME, PROXY, EXTERNAL, VARIABLE = "become-s3cret", "proxy-s3cret", "external-s3cret", "variable-s3cret"
ANSWER = "secret-of-the-command"


class ProcessList(threading.Thread):
    """Every command line that was to be seen on this machine, which holds the nodes as well, while it ran."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    self.seen.add((process / "cmdline").read_bytes())
                except OSError:
                    continue

    def end(self) -> bytes:
        self._ending.set()
        self.join()
        return b"\n".join(self.seen)


def test_no_secret_is_written_or_shown(lab: Lab, tmp_path: Path) -> None:
    token = lab.client("sts").get_session_token()["Credentials"]
    role = lab.create_role("222222222222", "Secretive", external_id=EXTERNAL)
    log = tmp_path / "mux.log"
    environment = lab.env(tls=True)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del environment[name]
    controller = Controller(tmp_path / "controller", {**environment, "ANSIBLE_STDOUT_CALLBACK": "default", "ANSIBLE_DEBUG": "0"})
    with lab.proxy("fleet", PROXY) as proxy:
        options: dict[str, Any] = {
            "ansible_ssm_access_key": token["AccessKeyId"], "ansible_ssm_secret_key": token["SecretAccessKey"],
            "ansible_ssm_session_token": token["SessionToken"],
            "ansible_ssm_role_arn": role, "ansible_ssm_external_id": EXTERNAL, "ansible_ssm_proxy": proxy.authorized_url, "ansible_ssm_mux_log": str(log),
            "ansible_become_password": BECOME, "ansible_python_interpreter": "/usr/bin/python3",
        }  # fmt: skip
        there = connection_variables(lab, "web-3")
        controller.hosts({
            "works": {**there, **options},
            "denied": {**there, **options, "ansible_ssm_external_id": EXTERNAL + "-wrong"},
            "refused": {**there, **options, "ansible_ssm_proxy": proxy.authorized_url.replace(PROXY, PROXY + "-wrong")},
            "nowhere": {**there, **options, "ansible_ssm_proxy": f"http://fleet:{PROXY}@127.0.0.1:9"},
        })  # fmt: skip
        lab.node("web-3").run(f"id fleet-s 2>/dev/null || useradd -m fleet-s; printf 'fleet-s:%s\\n' '{BECOME}' | chpasswd")
        play = {"hosts": "all", "gather_facts": False, "tasks": [
            {"name": "quiet", "ansible.builtin.command": f"echo {ANSWER}", "environment": {"TOKEN": VARIABLE}, "no_log": True},
            {"name": "root", "ansible.builtin.command": "id -un", "become": True},
            {"name": "su", "ansible.builtin.command": "id -un", "become": True, "become_user": "fleet-s", "become_method": "su"},
        ]}  # fmt: skip
        processes = ProcessList()
        processes.start()
        try:
            done = controller.run("ansible-playbook", "-i", str(controller.inventory), "-vvvv", str(controller.write_playbook([play])), timeout=120)
            status = controller.mux("status").stdout + controller.mux("status", "--json").stdout
        finally:
            everything = processes.end()
            stop_mux(controller.home, environment)
    assert "works                      : ok=3" in done.stdout, done.stdout[-3000:]
    assert done.stdout.count("unreachable=1") == 3, done.stdout[-3000:]
    names = "\n".join(str(path) for path in [*controller.home.rglob("*"), *controller.home.rglob(".*")])
    places = {
        "log": log.read_text(), "stdout": done.stdout, "stderr": done.stderr, "status": status, "names": names,
        "processes": everything.decode("utf-8", "replace"),
    }  # fmt: skip
    for message in ("may not assume the role", "407 Proxy Authentication Required", "127.0.0.1:9"):
        assert message in done.stdout
    assert len(places["log"]) > 100
    assert not any(text in places["log"] + places["status"] + done.stdout + done.stderr for text in (ANSWER, VARIABLE))
    assert lab.node("web-3").node_id in status
    secrets = {"secret key": token["SecretAccessKey"], "session token": token["SessionToken"], "become": BECOME, "proxy": PROXY, "external id": EXTERNAL}
    found = [(what, where) for what, secret in secrets.items() for where, text in places.items() if secret in text]
    assert found == []
    assert os.stat(log).st_mode & 0o077 == 0
