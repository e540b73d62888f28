# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the built collection consists of: what its users need, and neither tests nor caches."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
INTENDED = {
    "CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "changelogs", "docs", "extensions", "meta", "playbooks", "plugins",
    "requirements.txt", "roles",
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of ``ansible-galaxy collection build`` in this working tree, with all that work has left in it."""
    folder = tmp_path_factory.mktemp("built")
    program = Path(sys.executable).parent / "ansible-galaxy"
    subprocess.run([program, "collection", "build", "--output-path", folder, REPOSITORY], check=True, capture_output=True)
    (archive,) = folder.glob("fleet-ssm-*.tar.gz")
    with tarfile.open(archive) as opened:
        return [Path(member.name) for member in opened if member.isfile()]


def test_it_holds_what_is_intended(built):
    assert {path.parts[0] for path in built} == INTENDED


def test_it_holds_no_test_and_no_cache(built):
    assert [path for path in built if path.name.startswith(("test_", "conftest")) or path.suffix in (".pyc", ".jsonl")] == []
    assert not {part for path in built for part in path.parts if part in ("__pycache__", "tests") or part.startswith(".")}


def test_it_holds_what_the_mux_and_the_execution_environment_read(built):
    names = {str(path) for path in built}
    assert "plugins/plugin_utils/runner/posix.sh" in names and "meta/execution-environment.yml" in names
    documents = [path.name for path in (REPOSITORY / "plugins/plugin_utils/mux/session_documents").iterdir()]
    assert documents and {f"plugins/plugin_utils/mux/session_documents/{name}" for name in documents} <= names
