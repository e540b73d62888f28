# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-builder finds in this collection what an execution environment needs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import yaml
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[3]


def introspected(folder: Path) -> dict[str, list[str]]:
    """What ``ansible-builder introspect`` collects of the collections below a folder."""
    wanted = folder / "python.txt"
    command = [str(Path(sys.executable).parent / "ansible-builder"), "introspect", "--sanitize", str(folder), "--write-pip", str(wanted)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {"python": [line.partition("#")[0].strip() for line in wanted.read_text(encoding="utf-8").splitlines() if line.partition("#")[0].strip()]}


def test_ansible_builder_collects_the_requirements_of_a_controller(tmp_path):
    ours = tmp_path / "ansible_collections" / "fleet" / "ssm"
    ours.parent.mkdir(parents=True)
    ours.mkdir()
    for name in ("galaxy.yml", "requirements.txt", "meta"):
        (ours / name).symlink_to(REPOSITORY / name)
    names = {Requirement(line).name for line in introspected(tmp_path)["python"]}
    assert names == {"boto3", "botocore", "cryptography", "websockets"}


def test_the_tests_run_on_what_a_controller_is_told_to_have():
    lines = [line for line in (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for requirement in map(Requirement, lines):
        assert requirement.specifier.contains(version(requirement.name))


def test_the_oldest_ansible_is_the_same_in_every_place_that_names_it():
    runtime = yaml.safe_load((REPOSITORY / "meta" / "runtime.yml").read_text(encoding="utf-8"))
    assert runtime["requires_ansible"] == ">=2.18.0"
    assert "ansible-core 2.18" in (REPOSITORY / "README.md").read_text(encoding="utf-8")
