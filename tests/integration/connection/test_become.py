# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Become: sudo, su and doas, with and without a password, with a wrong one, and where a terminal is required.

The nodes' users are made by the tests themselves, as an administrator would, over the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.controller import Controller, Run
from tests.integration.direct import DirectConnection
from tests.integration.routes import by_both_later
from tests.lab import Lab

ASKS = "ssm-user ALL=(ALL) PASSWD: ALL"
PASSWORD = "correct horse'\"$ battery"
SETUP: list[dict[str, Any]] = [
    {"name": "user with a password", "become": True, "ansible.builtin.shell": (
        "id fleet-a >/dev/null 2>&1 || useradd -m -s /bin/bash fleet-a; id fleet-b >/dev/null 2>&1 || useradd -m -s /bin/bash fleet-b\n"
        "for user in root ssm-user fleet-a fleet-b; do id $user >/dev/null 2>&1 && printf '%s:%s\\n' $user \"$P\"; done | chpasswd\n"
    ), "environment": {"P": PASSWORD}},
]  # fmt: skip


def under(rule: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    """The tasks under a sudo rule for ssm-user in place of its password-less one, which comes back by su."""
    path = "/etc/sudoers.d/zz-fleet-test"
    give = {"name": "rule", "become": True, "ansible.builtin.shell": f"printf '{rule}\\n' > {path} && chmod 440 {path}"}
    take = {"name": "restore", "ansible.builtin.raw": f"rm -f {path}", "become": True, "become_method": "su", "vars": {"ansible_become_password": PASSWORD}}
    return {"block": [give, *tasks], "always": [take]}


def whoami(**keywords: Any) -> dict[str, Any]:
    return {"name": "who", "ansible.builtin.command": "id -un", "become": True, **keywords}


def who(run: Run) -> str:
    return run.check().result("who")["stdout"]


def refusal(run: Run) -> str:
    """What the task said that became no one: failed within seconds, and of a node that can still be reached."""
    run.check()
    result = run.result("who")
    assert (result.get("failed"), result.get("unreachable")) == (True, None)
    assert run.seconds("who") < 15, "sudo takes some seconds for each of three tries; the connection's own time-out is 30"
    return str(result)


@by_both_later
def test_sudo_without_password(controller: Controller) -> None:
    assert who(controller.tasks(whoami())) == "root"


@by_both_later
@pytest.mark.parametrize("pipelining", [True, False])
def test_sudo_to_another_unprivileged_user(controller: Controller, pipelining: bool) -> None:
    run = controller.tasks(*SETUP, whoami(become_user="fleet-a"), {"name": "copy", "become": True, "become_user": "fleet-a",
                           "ansible.builtin.copy": {"content": "mine\n", "dest": "/home/fleet-a/file", "mode": "0600"}},
                           vars={"ansible_pipelining": pipelining})  # fmt: skip
    assert who(run) == "fleet-a"
    assert run.result("copy")["owner"] == "fleet-a"


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("rule", [ASKS, f"Defaults:ssm-user requiretty\\n{ASKS}"], ids=["password", "requiretty"])
def test_sudo_with_password(controller: Controller, rule: str, pipelining: bool) -> None:
    run = controller.tasks(*SETUP, under(rule, whoami(vars={"ansible_become_password": PASSWORD})), vars={"ansible_pipelining": pipelining})
    assert who(run) == "root"


def test_sudo_requiretty_without_password(controller: Controller) -> None:
    run = controller.tasks(*SETUP, under("Defaults:ssm-user requiretty\\nssm-user ALL=(ALL) NOPASSWD: ALL", whoami()))
    assert who(run) == "root"


@pytest.mark.parametrize("password", ["wrong", None])
def test_wrong_or_missing_sudo_password_is_an_error(controller: Controller, password: str | None) -> None:
    variables = {} if password is None else {"ansible_become_password": password}
    run = controller.tasks(*SETUP, under(ASKS, whoami(vars=variables, ignore_errors=True, ignore_unreachable=True)), timeout=90)
    message = refusal(run)
    assert ("Incorrect sudo password" if password else "Missing sudo password") in message
    assert PASSWORD not in run.stdout


@by_both_later
@pytest.mark.parametrize("user", ["root", "fleet-b"])
def test_su_with_password(controller: Controller, user: str) -> None:
    assert who(controller.tasks(*SETUP, whoami(become_method="su", become_user=user, vars={"ansible_become_password": PASSWORD}))) == user


@pytest.mark.slow
def test_su_with_wrong_password(controller: Controller) -> None:
    task = whoami(become_method="su", vars={"ansible_become_password": "wrong"}, ignore_errors=True, ignore_unreachable=True)
    assert "Incorrect su password" in refusal(controller.tasks(*SETUP, task, timeout=90))


@pytest.mark.parametrize(("rule", "password"), [("permit nopass ssm-user as root", None), ("permit ssm-user as root", PASSWORD)], ids=["nopass", "password"])
def test_doas(controller: Controller, rule: str, password: str | None) -> None:
    configure = {"name": "doas.conf", "become": True, "ansible.builtin.shell": f"echo '{rule}' > /etc/doas.conf; chmod 600 /etc/doas.conf"}
    variables = {} if password is None else {"ansible_become_password": password}
    assert who(controller.tasks(*SETUP, configure, whoami(become_method="community.general.doas", vars=variables))) == "root"


@pytest.mark.slow
def test_doas_with_wrong_password(controller: Controller) -> None:
    configure = {"name": "doas.conf", "become": True, "ansible.builtin.shell": "echo 'permit ssm-user as root' > /etc/doas.conf; chmod 600 /etc/doas.conf"}
    task = whoami(become_method="community.general.doas", vars={"ansible_become_password": "wrong"}, ignore_errors=True, ignore_unreachable=True)
    assert "Incorrect doas password" in refusal(controller.tasks(*SETUP, configure, task, timeout=90))


@by_both_later
def test_large_input_behind_a_password(controller: Controller) -> None:
    (controller.folder / "big").write_bytes(bytes(range(256)) * 20_000)
    copy = {"name": "copy", "become": True, "vars": {"ansible_become_password": PASSWORD},
            "ansible.builtin.copy": {"src": "big", "dest": "/root/big", "mode": "0600"}}  # fmt: skip
    assert controller.tasks(*SETUP, under(ASKS, copy)).check().result("copy")["size"] == 256 * 20_000


def test_both_sessions_of_a_new_node_are_of_the_same_user(lab: Lab, connect: Callable[..., DirectConnection]) -> None:
    """An agent makes `ssm-user` for the first session that finds none. Of two that look at once, sudo would know the second, the home be the first's."""
    (new,) = lab.add({"name": "new"})
    try:
        seen = "until pgrep -x useradd; do sleep 0.05; done; sleep 2"
        held = f"import fcntl, os; file = open('/etc/.pwd.lock', 'w'); fcntl.lockf(file, fcntl.LOCK_EX); os.system('{seen}')"
        new.run(f'python3 -c "{held}" >/dev/null 2>&1 &')  # until then no user can be made
        assert connect(new.node_id).execute("sudo -n id -un; stat -c %U ~") == (0, b"root\nssm-user\n", b"")
    finally:
        new.terminate()
