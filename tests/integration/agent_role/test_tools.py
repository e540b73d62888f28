# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes download and check with what they have: each program for itself, on a machine from which the others are hidden."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.integration.agent_role.conftest import NEW, REGION, Machine, Mirror
from tests.integration.agent_role.test_user_data import write
from tests.lab import Lab

pytestmark = pytest.mark.slow

DOWNLOADERS = ("curl", "wget", "python3")
CHECKERS = ("gpgv", "gpg", "sqv")


class Script:
    """The role's script on a machine, for packages of some place."""

    def __init__(self, machine: Machine, folder: Path, place: Mirror) -> None:
        write(folder, agent_mirror=place.url, agent_public_keys=place.key).check()
        self._machine = machine
        self._functions = (folder / "script").read_text().rpartition("main all")[0]

    def run(self, command: str, *, without: Iterable[str]) -> str:
        """What one of its functions prints, where programs are not."""
        hide = "".join(f'mount --bind /dev/null "$(command -v {program})"\n' for program in without)
        put = f"cat > /root/script <<'SCRIPT'\n{self._functions}\n{command}\nSCRIPT\n"
        return self._machine.shell(f"{put}unshare --mount sh -ec '{hide}sh /root/script || true'")

    def fetch(self, *, without: Iterable[str], **variables: str) -> str:
        """What is wrong with what it fetches, with other values of its variables."""
        settings = "".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items())
        return str(json.loads(self.run(f"{settings}main fetch", without=without))["error"])


@pytest.fixture(scope="module")
def machine(lab: Lab, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(lab, "tools", mirror, tmp_path_factory.mktemp("tools"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def script(machine: Machine, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Script:
    return Script(machine, tmp_path_factory.mktemp("script"), mirror)


@pytest.fixture(scope="module")
def script_like_aws(machine: Machine, like_aws: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Script:
    return Script(machine, tmp_path_factory.mktemp("like-aws"), like_aws)


def others(programs: tuple[str, ...], program: str) -> list[str]:
    return [each for each in programs if each != program]


@pytest.mark.parametrize("program", DOWNLOADERS)
def test_each_downloads_and_says_what_it_cannot(machine: Machine, script: Script, program: str) -> None:
    without = others(DOWNLOADERS, program)

    assert script.fetch(without=without) == ""
    assert machine.shell("cat /run/fleet-ssm-agent/order") == f"action=install wanted={NEW} file=amazon-ssm-agent.deb"
    missing = script.fetch(without=without, version="3.3.9.9")
    assert "3.3.9.9/debian_amd64/amazon-ssm-agent.deb cannot be read: " in missing and "404" in missing
    unreachable = script.fetch(without=without, mirror="http://127.0.0.1:9")
    assert re.fullmatch("http://127.0.0.1:9/latest/VERSION cannot be read: .*([Cc]onnect|refused).*", unreachable)


@pytest.mark.parametrize(("program", "region"), [("curl", REGION), ("wget", ""), ("python3", REGION)])
def test_the_metadata_service_is_asked_by_curl_or_python(script: Script, program: str, region: str) -> None:
    assert script.run("export $(systemctl show-environment)\nmetadata placement/region", without=others(DOWNLOADERS, program)) == region


@pytest.mark.parametrize("program", CHECKERS)
def test_each_tells_a_right_signature_from_a_wrong_one(script: Script, forged: Mirror, program: str) -> None:
    without = others(CHECKERS, program)

    assert script.fetch(without=without) == ""
    said = script.fetch(without=without, mirror=forged.url)
    assert re.search(f"{NEW}/debian_amd64/amazon-ssm-agent.deb has no valid signature of a key in agent_public_keys, and is not installed: .", said)


@pytest.mark.parametrize("program", ["gpgv", "gpg"])
def test_keys_like_those_of_aws_are_taken(script_like_aws: Script, program: str) -> None:
    assert script_like_aws.fetch(without=others(CHECKERS, program)) == ""


def test_without_any_of_them_it_says_what_to_install(script: Script) -> None:
    assert "there is no curl, wget or python3" in script.fetch(without=DOWNLOADERS)
    assert "There is no gpgv, gpg or sqv" in script.fetch(without=CHECKERS)


def test_sqv_of_debian_13_takes_keys_like_those_of_aws(machine: Machine, script_like_aws: Script, forged: Mirror) -> None:
    """That of Debian 12 does not, and cannot be told to. This is the last test, as the machine is a mixture then. It takes the network."""
    without = others(CHECKERS, "sqv")
    assert "SHA1 is not considered secure" in script_like_aws.fetch(without=without)
    machine.shell("sed -i s/bookworm/trixie/ /etc/apt/sources.list; apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qy sqv")

    assert script_like_aws.fetch(without=without) == ""
    assert "has no valid signature" in script_like_aws.fetch(without=without, mirror=forged.url)
