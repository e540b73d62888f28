# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes do what a node with amazon-ssm-agent does, quirks included. The same tests run on ours and, with
``FLEET_SSM_AGENT=/folder``, on nodes that run a real agent: they are what makes ours a stand-in.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.lab.session import Session, open_session
from tests.lab import Lab, LabNode

AGENT = os.environ.get("FLEET_SSM_AGENT")
#: The ids are the same on ours and on real agents, so that the passes can be compared.
KINDS = [
    pytest.param("agent" if AGENT else "process", id="process"),
    #: Machines need an image, which takes a minute and the network when it is not yet there.
    pytest.param("machine-agent" if AGENT else "machine", id="machine", marks=pytest.mark.slow),
]
RAW = "stty raw -echo; printf READY; exec "


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab([]) as running:
        for name, content in DOCUMENTS.items():
            running.client("ssm").create_document(Name=name, DocumentType="Session", Content=json.dumps(content))
        yield running


@pytest.fixture(scope="module", params=KINDS)
def node(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabNode]:
    made = lab.add(definition(f"one-{request.param}", request.param, users=[{"name": "alice", "groups": ["staff"]}]))[0]
    made.wait_online()
    yield made
    made.terminate()


def definition(name: str, kind: str, **values: Any) -> dict[str, Any]:
    real = kind in ("agent", "machine-agent")
    return {"name": name, "kind": kind.partition("-")[0], "options": {"agent": AGENT} if real else {}, **values}


def document(session_type: str, *, inputs: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "schemaVersion": "1.0",
        "description": "of a test",
        "sessionType": session_type,
        "inputs": inputs or {},
        "parameters": {"command": {"type": "String"}},
        "properties": {"linux": {"commands": "{{ command }}", **properties}},
    }


SEPARATE = {"runAsElevated": True, "separateOutputStream": True, "stdOutSeparatorPrefix": "", "stdErrSeparatorPrefix": ""}
DOCUMENTS = {
    "Test-Separate": document("NonInteractiveCommands", **SEPARATE),
    "Test-Prefixed": document("NonInteractiveCommands", **{**SEPARATE, "stdOutSeparatorPrefix": "O:", "stdErrSeparatorPrefix": "E:"}),
    "Test-Root": document("InteractiveCommands", runAsElevated=True),
    "Test-Alice": document("InteractiveCommands", inputs={"runAsEnabled": True, "runAsDefaultUser": "alice"}),
    "Test-Nobody": document("InteractiveCommands", inputs={"runAsEnabled": True, "runAsDefaultUser": "is-not-there"}),
}
INTERACTIVE = "AWS-StartInteractiveCommand"


async def interactive(lab: Lab, node: LabNode, command: str, name: str = INTERACTIVE) -> bytes:
    async with open_session(lab, node, name, command=command) as session:
        return (await session.end()).stdout


# Users and environment


async def test_session_runs_as_ssm_user_with_password_less_sudo(lab, node):
    output = await interactive(lab, node, "id -un; id -Gn; pwd; echo $HOME $TERM $LANG; sudo -n id -un; tty; echo ${USER-no} ${SHELL-no}")
    lines = output.decode().split("\r\n")
    # The agent's unit has a working directory; without systemd it is started in the root.
    assert lines[2] == ("/usr/bin" if node.kind == "machine" else "/")
    assert lines[:2] + lines[3:5] == ["ssm-user", "ssm-user", "/home/ssm-user xterm-256color C.UTF-8", "root"]
    assert lines[5].startswith("/dev/pts/")
    assert lines[6] == "no no"


async def test_elevated_session_runs_as_root(lab, node):
    assert await interactive(lab, node, "id -u; echo $HOME", "Test-Root") == b"0\r\n/root\r\n"


async def test_run_as_user_of_the_preferences_has_all_its_groups(lab, node):
    assert await interactive(lab, node, "id -un; id -Gn; echo $HOME", "Test-Alice") == b"alice\r\nalice staff\r\n/home/alice\r\n"


async def test_run_as_user_that_is_not_there_fails_the_session(lab, node):
    async with open_session(lab, node, "Test-Nobody", command="id") as session:
        ended = await session.end()
    assert ended.stdout == b""
    assert ended.closed is not None and "is-not-there does not exist" in ended.closed.reason


# PTY sessions


async def test_standard_session_is_a_shell_with_a_prompt(lab, node):
    async with open_session(lab, node) as session:
        assert await session.until(b"$ ") == b"$ "
        await session.client.write(b"echo $0 on''e\n")
        assert (await session.until(b"one\r\n$ ")).endswith(b"sh one\r\n$ ")
        await session.client.write(b"exit\n")
        assert (await session.end()).closed.clean


async def test_raw_input_is_clean_for_all_bytes(lab, node):
    everything = bytes(range(256)) * 300
    async with open_session(lab, node, INTERACTIVE, command=f"{RAW} head -c {len(everything)} | sha256sum") as session:
        await session.until(b"READY")
        await session.client.write(everything)
        ended = await session.end()

    assert hashlib.sha256(everything).hexdigest().encode() in ended.stdout


async def test_input_larger_than_what_the_terminal_holds_waits_for_its_reader(lab, node):
    data = os.urandom(3_000_000)
    async with open_session(lab, node, INTERACTIVE, command=f"{RAW} sh -c 'sleep 3; head -c {len(data)} | sha256sum'") as session:
        await session.until(b"READY")
        await asyncio.wait_for(session.client.write(data), 60)
        ended = await session.end(60)

    assert hashlib.sha256(data).hexdigest().encode() in ended.stdout


async def test_first_output_of_a_terminal_waits_a_second(lab, node):
    before = time.monotonic()
    async with open_session(lab, node, INTERACTIVE, command="echo there") as session:
        await session.end()
    assert time.monotonic() - before >= 1.0


@pytest.mark.parametrize(
    ("written", "received"),
    [
        (rb"caf\303\251\n", "café\n".encode()),
        (rb"a\357\277\275b\n123", b"a\xefb\n123"),  # U+FFFD loses two bytes
        (rb"\377\376\200 x123", b"\xff\xfe\x80 x123"),  # other invalid bytes pass
        (rb"123\342\202", b"123"),  # a character without its end is held back, and lost
        (rb"123\377", b"123"),
        (rb"12\3773", b"12"),
        (rb"\377123", b"\xff123"),
        (rb"\357\277\275", b""),
    ],
)
@pytest.mark.parametrize("name", [INTERACTIVE, "AWS-StartNonInteractiveCommand", "Test-Separate"])
async def test_output_passes_a_filter_for_utf_8(lab, node, name, written, received):
    text = f"printf '{written.decode()}'"
    command = f"stty raw; {text}" if name == INTERACTIVE else f'sh -c "{text}"'.replace("\\", "\\\\")
    assert await interactive(lab, node, command, name) == received


async def test_command_of_an_interactive_session_gets_a_shell(lab, node):
    assert await interactive(lab, node, "stty -onlcr; a='x  y'; for i in 1 2; do echo \"$a\" $i; done | tac") == b"x  y 2\nx  y 1\n"


async def test_terminal_takes_its_size_from_the_client(lab, node):
    from ansible_collections.fleet.ssm.plugins.plugin_utils.datachannel.client import SessionClient

    assert SessionClient  # the client sends its size by itself, or not at all; the node must answer either way
    output = await interactive(lab, node, "stty size")
    rows, columns = output.split()
    assert int(rows) >= 0 and int(columns) >= 0


async def test_termination_hangs_up_and_spares_what_has_left_the_terminal(lab, node):
    script = "trap 'touch /tmp/hung-up; exit' HUP; setsid sleep 60.25 & printf READY; while :; do sleep 0.1; done"
    await asyncio.to_thread(node.run, "rm -f /tmp/hung-up")
    async with open_session(lab, node, INTERACTIVE, command=f"sh -c {quoted(script)}; true") as session:
        await session.until(b"READY")
    await eventually(lambda: node.run("ls /tmp/hung-up", check=False).returncode == 0)
    assert node.run("pgrep -f 'sleep 60.25'", check=False).returncode == 0
    node.run("pkill -f 'sleep 60.25'")


# NonInteractive sessions


async def test_separate_streams_and_the_exit_code(lab, node):
    async with open_session(lab, node, "Test-Separate", command="sh -c 'echo out; echo err >&2; exit 7'") as session:
        ended = await session.end()
    assert (ended.stdout, ended.stderr, ended.code) == (b"out\n", b"err\n", 7)


async def test_signal_is_reported_as_minus_one(lab, node):
    async with open_session(lab, node, "Test-Separate", command="sh -c 'kill -9 $$'") as session:
        assert (await session.end()).code == -1


async def test_prefixes_of_separate_streams(lab, node):
    async with open_session(lab, node, "Test-Prefixed", command="sh -c 'printf out; echo err >&2'") as session:
        ended = await session.end()
    assert (ended.stdout, ended.stderr, ended.code) == (b"O:out", b"E:err\n", 0)


async def test_command_without_a_shell_is_split_into_words(lab, node):
    async with open_session(lab, node, "Test-Separate", command=r"""printf '[%s]' a'b c'd "e\"f\$g" \;h $HOME '#i' j#k # l""") as session:
        assert (await session.end()).stdout == b'[ab cd][e"f$g][;h][$HOME][#i][j#k]'


async def test_program_that_is_not_there(lab, node):
    async with open_session(lab, node, "Test-Separate", command="is-not-there --at all") as session:
        ended = await session.end()
    assert ended.code == 1
    assert b"is-not-there" in ended.stderr


async def test_merged_output_comes_when_the_command_has_ended(lab, node):
    async with open_session(lab, node, "AWS-StartNonInteractiveCommand", command="sh -c 'echo 1; echo 2 >&2; echo 3; cat'") as session:
        ended = await session.end()
    assert (ended.stdout, ended.stderr, ended.code) == (b"1\n2\n3\n", b"", None)


async def test_streams_are_complete_when_there_is_much(lab, node):
    command = "sh -c 'seq 400000; seq 100000 >&2'"
    async with open_session(lab, node, "Test-Separate", command=command) as session:
        ended = await session.end(60)
    assert ended.stdout == b"".join(b"%d\n" % number for number in range(1, 400001))
    assert ended.stderr == b"".join(b"%d\n" % number for number in range(1, 100001))
    assert ended.code == 0


async def test_background_child_that_holds_the_stream_delays_the_end(lab, node):
    before = time.monotonic()
    async with open_session(lab, node, "Test-Separate", command="sh -c 'sleep 2 & echo started'") as session:
        assert (await session.end()).code == 0
    assert time.monotonic() - before >= 2


async def test_termination_kills_the_command_itself_and_not_its_children(lab, node):
    async with open_session(lab, node, "Test-Separate", command="sh -c 'sleep 61.5 & echo started; exec sleep 62.5'") as session:
        await session.until(b"started")
    await eventually(lambda: node.run("pgrep -f 'sleep 62.5'", check=False).returncode != 0)
    assert node.run("pgrep -f 'sleep 61.5'", check=False).returncode == 0
    node.run("pkill -f 'sleep 61.5'")


# Encryption


@pytest.mark.parametrize("kind", ["InteractiveCommands", "NonInteractiveCommands"])
async def test_session_is_encrypted_by_kms(lab, node, kind):
    key = lab.client("kms").create_key()["KeyMetadata"]["Arn"]
    name = f"Test-Kms-{kind}-{node.name}"
    content = document(kind, inputs={"kmsKeyId": key}, **SEPARATE)
    lab.client("ssm").create_document(Name=name, DocumentType="Session", Content=json.dumps(content))
    async with open_session(lab, node, name, command="sh -c 'echo secret'") as session:
        assert (await session.end()).stdout in (b"secret\n", b"secret\r\n")


# Survival


async def echo(session: Session, word: bytes) -> None:
    await session.client.write(word + b"\n")
    await session.until(b"<" + word + b">")


@pytest.mark.parametrize("harm", ["restart", "kill"])
async def test_session_survives_its_agent(lab, node, harm):
    loop = 'stty -echo; printf READY; while read -r word; do echo "<$word>"; done'
    async with open_session(lab, node, INTERACTIVE, command=loop) as session:
        await session.until(b"READY")
        if harm == "kill":
            await asyncio.to_thread(node.kill_agent)
            await echo(session, b"without")
        await asyncio.to_thread(node.restart_agent)
        await echo(session, b"after")
        async with open_session(lab, node, INTERACTIVE, command="echo another") as other:
            assert b"another" in (await other.end()).stdout
        await echo(session, b"still")


@pytest.mark.parametrize("side", ["agent", "client"])
async def test_session_survives_the_loss_of_a_websocket(lab, node, side):
    loop = 'stty -echo; printf READY; while read -r word; do echo "<$word>"; done'
    async with open_session(lab, node, INTERACTIVE, command=loop) as session:
        await session.until(b"READY")
        for number in range(3):
            assert await asyncio.to_thread(lab.cut, side, session=session.client.session_id) == 1
            await echo(session, b"word %d" % number)


@pytest.mark.skipif(bool(AGENT), reason="about our own nodes alone")
async def test_session_whose_client_is_away_costs_its_node_nothing(lab, node):
    def pauses() -> int:
        """How often the session's worker has gone to sleep."""
        return int(node.run(f"awk '/^voluntary/ {{print $2}}' /proc/{worker}/status").stdout)

    async with open_session(lab, node, INTERACTIVE, command="printf 'worker %s.' $PPID; while sleep 0.5; do echo; done") as session:
        worker = int((await session.until(b".")).split()[-1].rstrip(b"."))
        await asyncio.to_thread(lab.network_away, 10, "client", mode="cut")
        await asyncio.sleep(1)
        before = await asyncio.to_thread(pauses)
        await asyncio.sleep(3)
        assert await asyncio.to_thread(pauses) - before < 80, "its timers are by tenths of a second"
    lab.clear_faults()


async def test_reboot_is_another_boot_of_the_same_node(lab, node):
    def boot_id() -> str:
        return node.run("cat /proc/sys/kernel/random/boot_id; cat /root/mark").stdout

    node.run("echo kept > /root/mark; touch /tmp/forgotten")
    before = boot_id()
    await asyncio.to_thread(node.reboot)
    after = boot_id()
    assert before.split()[0] != after.split()[0]
    assert after.split()[1] == "kept"
    assert node.run("ls /tmp/forgotten", check=False).returncode != 0
    assert b"back" in await interactive(lab, node, "echo back")


async def test_node_comes_back_after_a_power_cut(lab, node):
    await asyncio.to_thread(node.crash)
    assert node.status == "crashed"
    await eventually(lambda: not node.connected)
    await asyncio.to_thread(node.start)
    assert b"back" in await interactive(lab, node, "echo back")


@pytest.mark.parametrize("kind", KINDS)
async def test_hybrid_node(lab, kind):
    hybrid = (await asyncio.to_thread(lab.add, definition(f"hybrid-{kind}", kind, hybrid=True)))[0]
    await asyncio.to_thread(hybrid.wait_online)
    assert hybrid.node_id.startswith("mi-")
    assert b"here" in await interactive(lab, hybrid, "echo here")
    await asyncio.to_thread(hybrid.terminate)


def quoted(script: str) -> str:

    return shlex.quote(script)


async def eventually(holds: Any, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(holds):
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_systemd_of_a_machine_brings_a_killed_agent_back(lab):
    node = (await asyncio.to_thread(lab.add, definition("unkillable", "machine", options={"restart_sec": 3})))[0]
    await asyncio.to_thread(node.wait_online)
    await asyncio.to_thread(node.kill_agent)
    await eventually(lambda: not node.connected)
    await asyncio.to_thread(node.wait_online)
    assert b"back" in await interactive(lab, node, "echo back")
    assert b"running" in await interactive(lab, node, "systemctl is-system-running")
    await asyncio.to_thread(node.terminate)


async def test_node_without_python(lab):
    node = (await asyncio.to_thread(lab.add, {"name": "bare", "python": False}))[0]
    await asyncio.to_thread(node.wait_online)
    output = await interactive(lab, node, "for i in python3 python perl; do command -v $i; done; ls -d /usr/bin/python* /usr/lib/python*")
    assert b"/usr/bin/perl" in output
    assert b"/usr/bin/python" not in output.replace(b"'/usr/bin/python*'", b"")
    await asyncio.to_thread(node.terminate)


async def test_node_shows_nothing_of_its_host(lab, node):
    listing = await asyncio.to_thread(node.run, "ls -A /root /home /tmp /opt /srv /work /usr/local/bin 2>/dev/null; hostname", check=False)
    assert "fleet-ssm-lab" not in listing.stdout
    assert "pyenv" not in listing.stdout
    assert listing.stdout.split()[-1] == node.name
    here = os.path.realpath(__file__)
    assert node.run(f"cat {shlex.quote(here)}", check=False).returncode != 0


async def test_users_have_the_sudo_rules_of_their_description(lab):
    users = [
        {"name": "free", "sudo": "nopasswd"},
        {"name": "asked", "password": "s3cret", "sudo": "password"},
        {"name": "screen", "sudo": "requiretty"},
        {"name": "none"},
    ]
    node = (await asyncio.to_thread(lab.add, {"name": "people", "users": users}))[0]

    def as_user(name: str, command: str) -> int:
        return node.run(f"setsid -w runuser -u {name} -- sh -c {shlex.quote(command)}", check=False).returncode

    assert as_user("free", "sudo -n true") == 0
    assert as_user("free", "doas -n true") == 0
    assert as_user("asked", "sudo -n true") != 0
    assert as_user("asked", "echo s3cret | sudo -S true") == 0
    assert as_user("screen", "sudo -n true") != 0
    assert as_user("screen", "script -qec 'sudo -n true' /dev/null") == 0
    assert as_user("none", "sudo -n true") != 0
    await asyncio.to_thread(node.terminate)
