# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripts for nodes, run by the shells of this machine: what they print is what the trailer says."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand import script, trailer
from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand.script import Blob
from ansible_collections.fleet.ssm.plugins.plugin_utils.runcommand.trailer import Ended, Said

Run = Callable[[str], str]

EVERY_BYTE = bytes(range(256)) * 3
SHELLS = [[name] for name in ("dash", "bash") if shutil.which(name)] + ([["busybox", "sh"]] if shutil.which("busybox") else [])


@pytest.fixture(params=SHELLS, ids=" ".join)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a script as the agent does: from a file, without input. The folder of ours is in a place of this test's own."""

    def run(text: str) -> str:
        path = tmp_path / "_script.sh"
        path.write_text(text.replace("/var/lib", str(tmp_path)))
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run([*request.param, str(path)], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout

    return run


def ran(text: str, name: str) -> Ended:
    found = trailer.read(text, name)
    assert isinstance(found, Ended)
    return found


def said(text: str, name: str) -> Said:
    found = trailer.read(text, name)
    assert isinstance(found, Said)
    return found


@pytest.mark.parametrize("status", [0, 3, 137, 194])
def test_a_command_with_its_input_streams_and_status(run: Run, tmp_path: Path, status: int) -> None:
    job = script.exec_job(b"cat; printf 'it'\\''s \\377' >&2; exit %d" % status, [EVERY_BYTE, b"tail"])
    found = ran(run(script.script(job, "n1", keep=False)), "n1")
    assert (found.word, found.value, found.data) == ("exit", str(status), (EVERY_BYTE + b"tail", b"it's \xff"))
    assert os.listdir(tmp_path / "fleet-ssm") == ["blobs"]


def test_the_umask_and_the_folder_are_the_users(run: Run, tmp_path: Path) -> None:
    found = ran(run(script.script(script.exec_job(b"umask; pwd", []), "n1", keep=False)), "n1")
    old = os.umask(0)
    os.umask(old)
    assert found.data is not None
    assert found.data[0].decode().split() == [f"{old:04o}", str(tmp_path)]


def test_a_signal_is_a_status(run: Run) -> None:
    assert ran(run(script.script(script.exec_job(b"kill -KILL $$", []), "n1", keep=False)), "n1").value == "137"


def test_a_command_is_never_begun_again(run: Run, tmp_path: Path) -> None:
    text = script.script(script.exec_job(f"echo >>{tmp_path}/count; head -c 99999 /dev/urandom".encode(), []), "n1", keep=True)
    assert ran(run(text), "n1").kept
    assert said(run(text), "n1").word == "again"
    assert (tmp_path / "count").read_text() == "\n"


def test_output_that_is_too_long_is_counted(run: Run, tmp_path: Path) -> None:
    found = ran(run(script.script(script.exec_job(b"head -c 40000 /dev/urandom", []), "n1", keep=False)), "n1")
    assert (found.data, found.kept, found.stdout.size) == (None, False, 40_000)
    assert os.listdir(tmp_path / "fleet-ssm") == ["blobs"]


def test_where_nothing_may_be_printed_no_hash_tells_a_short_secret(run: Run, tmp_path: Path) -> None:
    digest, path = hashlib.sha256(b"1234").hexdigest(), str(tmp_path / "pin").encode()
    put = run(script.script(script.put_job(path, None, 4, digest, [b"1234"]), "n1", keep=True, printed=0))
    assert said(put, "n1") == Said("stored", ("4", "-"))
    got, shown = (run(script.script(script.get_job(path), name, keep=True, printed=printed)) for name, printed in (("n2", 0), ("n3", script.PRINTED)))
    assert (ran(got, "n2").kept, ran(got, "n2").stdout.size, digest in got) == (True, 4, False)
    assert digest in shown


def test_blobs_are_missed_brought_in_pieces_and_kept_if_they_are_code(run: Run, tmp_path: Path) -> None:
    code, once = Blob.lasting(os.urandom(100_000)), Blob.passing(os.urandom(50_000), "n1")
    job = script.exec_job(b"sha256sum", [code, b"arguments", once])
    assert said(run(script.script(job, "n1", keep=False)), "n1") == Said("miss", (code.name,))
    for blob in (code, once):
        for number in range(blob.pieces):
            text = script.piece_script(blob, number, f"n1p{number}")
            assert len(text) < script.SCRIPT_LIMIT + 4000
            assert said(run(text), f"n1p{number}").word == "brought"
    assert code.pieces > 1
    assert ran(run(script.script(job, "n2", keep=False)), "n2").value == "0"
    assert os.listdir(tmp_path / "fleet-ssm" / "blobs") == [code.name]


def test_a_damaged_blob_is_no_blob(run: Run) -> None:
    blob = Blob.lasting(os.urandom(5_000))
    run(script.piece_script(Blob(blob.name, Blob.lasting(b"other").packed), 0, "p"))
    assert said(run(script.script(script.exec_job(b"cat", [blob]), "n1", keep=False)), "n1").word == "miss"


@pytest.mark.parametrize("name", ["plain", "it's", "new\nline\n", " blank ", "-rf", "$HOME", "汉语"])
def test_files_there_and_back(run: Run, tmp_path: Path, name: str) -> None:
    path = f"{tmp_path}/{name}".encode()
    digest = hashlib.sha256(EVERY_BYTE).hexdigest()
    assert said(run(script.script(script.put_job(path, 0o640, len(EVERY_BYTE), digest, [EVERY_BYTE]), "n1", keep=False)), "n1").word == "stored"
    found = ran(run(script.script(script.get_job(path), "n2", keep=False)), "n2")
    assert (found.word, found.value, found.data) == ("got", "640", (EVERY_BYTE, b""))


def test_a_file_that_is_replaced_keeps_its_mode_and_its_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o751)
    (tmp_path / "link").symlink_to("file")
    run(script.script(script.put_job(str(tmp_path / "link").encode(), None, 3, hashlib.sha256(b"new").hexdigest(), [b"new"]), "n1", keep=False))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o751


def test_files_that_cannot_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    cases = [("/no/such/folder/file", "ENOENT"), (str(tmp_path), "EISDIR"), ("/dev/null", "EINVAL"), ("/proc/none", "EACCES")]
    for path, code in cases:
        job = script.put_job(path.encode(), None, 1, hashlib.sha256(b"x").hexdigest(), [b"x"])
        assert said(run(script.script(job, "n1", keep=False)), "n1").values == (code,)
    wrong = script.put_job(str(tmp_path / "file").encode(), None, 1, hashlib.sha256(b"y").hexdigest(), [b"x"])
    assert said(run(script.script(wrong, "n1", keep=False)), "n1").values == ("EBADMSG",)
    assert (tmp_path / "file").read_bytes() == b"old"
    for path, code in (("/no/file", "ENOENT"), ("/tmp", "EISDIR"), ("/dev/null", "EINVAL")):
        assert said(run(script.script(script.get_job(path.encode()), "n1", keep=False)), "n1") == Said("failed", (code,))


def test_what_is_cut_is_not_taken_for_whole() -> None:
    whole = "H4sI\nH4sI\nfleet-ssm:n1 exit 0 0 - 0 -\n"
    assert trailer.read(whole[:-1], "n1") is None
    with pytest.raises(trailer.TrailerError):
        trailer.read(whole, "n1")
