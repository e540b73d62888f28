# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each rung of the document ladder: the collection's own pair, the public document, the account's default shell."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from tests.integration.conftest import connection_variables
from tests.integration.controller import run_mux, stop_mux
from tests.integration.direct import DirectConnection
from tests.lab import Lab

Connect = Callable[..., DirectConnection]


@pytest.fixture
def connect(lab: Lab, tmp_path: Path) -> Iterator[Connect]:
    """As elsewhere, with a mux of its own, since a mux remembers which documents there are."""
    home = tmp_path / "home"
    home.mkdir()
    with ExitStack() as stack:

        def make(**variables: Any) -> DirectConnection:
            return stack.enter_context(DirectConnection(home, lab.env(), {**connection_variables(lab, "web-1"), **variables}))

        yield make
    stop_mux(home, lab.env())


def status() -> dict[str, Any]:
    """The one node of the mux of a direct connection, which has put its environment into ours."""
    (node,) = json.loads(run_mux(dict(os.environ), "status", "--json").stdout)["nodes"]
    return dict(node)


def test_without_preparation_the_public_document_is_used(connect: Connect) -> None:
    assert connect().execute("id -un") == (0, b"ssm-user\n", b"")
    wait_for_output_session()
    assert status()["document"] == "AWS-StartInteractiveCommand"


def test_output_goes_by_the_terminal_where_no_second_session_is_allowed(lab: Lab, connect: Connect) -> None:
    lab.deny("ssm:StartSession", resource="*AWS-StartNonInteractiveCommand")
    try:
        assert connect().execute("seq 1 20000")[1].count(b"\n") == 20000
        assert (status()["document"], status()["output_session"]) == ("AWS-StartInteractiveCommand", None)
    finally:
        lab.clear_permissions()


@pytest.mark.usefixtures("own_documents")
def test_the_public_document_is_used_where_the_collections_own_may_not(lab: Lab, connect: Connect) -> None:
    lab.deny("ssm:StartSession", resource="*document/FleetSSM-*")
    try:
        assert connect().execute("id -un") == (0, b"ssm-user\n", b"")
        assert status()["document"] == "AWS-StartInteractiveCommand"
    finally:
        lab.clear_permissions()


def test_the_default_shell_is_used_where_public_documents_may_not(lab: Lab, connect: Connect) -> None:
    lab.deny("ssm:StartSession", resource="*document/AWS-*")
    try:
        assert connect().execute("printf out; printf err >&2; exit 3") == (3, b"out", b"err")
        assert status()["document"] == "the default shell document (SSM-SessionManagerRunShell)"
    finally:
        lab.clear_permissions()


@pytest.mark.usefixtures("own_documents")
def test_the_collections_own_pair_is_preferred(connect: Connect) -> None:
    connection = connect()
    assert connection.execute("id -un") == (0, b"ssm-user\n", b"")
    wait_for_output_session()
    assert status()["document"] == "FleetSSM-Input"


@pytest.mark.usefixtures("own_documents")
def test_run_as_root(connect: Connect) -> None:
    assert connect(ansible_ssm_run_as="root").execute("id -un; pwd") == (0, b"root\n/root\n", b"")
    assert status()["document"] == "FleetSSM-RootInput"


def test_a_session_of_another_user_than_wanted_is_refused(connect: Connect) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="runs as ssm-user, not as root"):
        connect(ansible_ssm_run_as="root").execute("true")


def test_the_default_shell_document(connect: Connect) -> None:
    data = os.urandom(100_000)
    assert connect(ansible_ssm_document="SSM-SessionManagerRunShell").execute("cat", data) == (0, data, b"")


def test_a_document_that_does_not_exist_is_named(connect: Connect) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="session document Nope does not exist"):
        connect(ansible_ssm_document="Nope").execute("true")


@pytest.mark.usefixtures("own_documents")
def test_a_lost_output_session_loses_no_output_and_is_replaced(lab: Lab, connect: Connect) -> None:
    connection = connect()
    connection.execute("true")
    first = wait_for_output_session()
    lab.client("ssm").terminate_session(SessionId=first)
    assert connection.execute("seq 1 20000") == (0, "".join(f"{number}\n" for number in range(1, 20001)).encode(), b"")
    connection.execute("sleep 2")  # it is replaced while there is work
    assert wait_for_output_session(other_than=first) != first
    assert connection.execute("seq 1 20000")[1].count(b"\n") == 20000


def wait_for_output_session(other_than: str | None = None) -> str:
    deadline = time.monotonic() + 20
    while (found := status()["output_session"]) in (None, other_than):
        assert time.monotonic() < deadline, "there is no output session"
        time.sleep(0.1)
    return str(found)
