# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for all integration tests, and for each test a controller of its own.

``FLEET_SSM_AGENT=/folder`` makes the lab's nodes run a real amazon-ssm-agent from that folder (``make test-agent``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import MUX, Controller, stop_mux
from tests.integration.direct import DirectConnection
from tests.integration.permissions import check_calls
from tests.integration.routes import RUN_COMMAND
from tests.lab import Lab, LabNode

Lab.closing.append(check_calls)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The default lab: six nodes in two accounts and two regions."""
    with Lab(agent=os.environ.get("FLEET_SSM_AGENT")) as running:
        yield running


BUCKET = "fleet-ssm-transfers"
"""Of the route run_command, where it has one."""


@pytest.fixture(scope="session")
def bucket(lab: Lab) -> str:
    """It exists, and its policy lets the lab's other accounts pass objects through it."""
    s3 = lab.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": lab.region})
    statement = {
        "Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam::{account}:root" for account in lab.accounts]},
        "Action": ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"], "Resource": f"arn:aws:s3:::{BUCKET}/*",
    }  # fmt: skip
    s3.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return BUCKET


@pytest.fixture
def route(request: pytest.FixtureRequest) -> str:
    """The route by which nodes are reached: the one that a test asks for (see `routes.py`), or the session."""
    chosen: str = getattr(request, "param", "session")
    if chosen == RUN_COMMAND:
        request.getfixturevalue("bucket")
    return chosen


def route_variables(route: str) -> dict[str, Any]:
    """What an inventory says of the route."""
    if route == "session":
        return {}
    return {"ansible_ssm_route": "run_command", **({"ansible_ssm_bucket": BUCKET} if route == RUN_COMMAND else {})}


def running_nodes(lab: Lab) -> list[LabNode]:
    """Of a lab that tests share: some of them bring others, which are stopped or have ended."""
    return [node for node in lab.nodes() if node.kind in ("process", "agent") and node.status == "running"]


def connection_variables(lab: Lab, name: str, route: str = "session") -> dict[str, Any]:
    """What an inventory says of a node."""
    node = lab.node(name)
    variables = {
        "ansible_connection": "fleet.ssm.ssm", "ansible_ssm_instance_id": node.node_id, "ansible_ssm_region": node.region, **route_variables(route),
    }  # fmt: skip
    if node.account != lab.account:
        variables["ansible_ssm_role_arn"] = f"arn:aws:iam::{node.account}:role/FleetOperator"
    return variables


@pytest.fixture
def own_documents(lab: Lab) -> Iterator[None]:
    """The account as it is once an administrator has created the collection's documents."""
    client = lab.client("ssm")
    names = []
    for path in sorted((MUX / "session_documents").glob("*.json")):
        client.create_document(Name=path.stem, Content=path.read_text(), DocumentType="Session", DocumentFormat="JSON")
        names.append(path.stem)
    yield
    for name in names:
        client.delete_document(Name=name)


@pytest.fixture(scope="session")
def shared_home(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home directory, and so a mux, for all tests that do not care."""
    home = tmp_path_factory.mktemp("home")
    yield home
    stop_mux(home, lab.env())


@pytest.fixture
def controller(lab: Lab, route: str, shared_home: Path, tmp_path: Path) -> Controller:
    """A controller whose inventory holds the first node, as ``web-1``."""
    made = Controller(tmp_path / "controller", lab.env(), shared_home)
    made.hosts({"web-1": connection_variables(lab, "web-1", route)}, ansible_python_interpreter="/usr/bin/python3")
    return made


@pytest.fixture
def own_controller(lab: Lab, route: str, tmp_path: Path) -> Iterator[Controller]:
    """The same with a home, and so a mux, of its own."""
    made = Controller(tmp_path / "controller", lab.env())
    made.hosts({"web-1": connection_variables(lab, "web-1", route)}, ansible_python_interpreter="/usr/bin/python3")
    yield made
    stop_mux(made.home, lab.env())


@pytest.fixture
def connect(lab: Lab, route: str, shared_home: Path) -> Iterator[Callable[..., DirectConnection]]:
    """Makes a connection plugin as a worker has it, to call its methods and see bytes."""
    with ExitStack() as stack:

        def make(name: str = "web-1", **variables: Any) -> DirectConnection:
            return stack.enter_context(DirectConnection(shared_home, lab.env(), {**connection_variables(lab, name, route), **variables}))

        yield make


@pytest.fixture
def own_connect(lab: Lab, route: str, tmp_path: Path) -> Iterator[Callable[..., DirectConnection]]:
    """As ``connect``, with a mux of its own; ``environment`` takes the place of the lab's, and ``variables`` add to the inventory's."""
    home = tmp_path / "own-home"
    home.mkdir()
    with ExitStack() as stack:

        def make(name: str = "web-1", environment: dict[str, str] | None = None, **variables: Any) -> DirectConnection:
            chosen = lab.env() if environment is None else environment
            return stack.enter_context(DirectConnection(home, chosen, {**connection_variables(lab, name, route), **variables}))

        yield make
    stop_mux(home, lab.env())
