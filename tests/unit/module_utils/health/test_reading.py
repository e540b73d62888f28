# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Evidence read from policies and consoles."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.fleet.ssm.plugins.module_utils.health.console import read_console
from ansible_collections.fleet.ssm.plugins.module_utils.health.policies import missing_actions

ACTIONS = ("ssm:UpdateInstanceInformation", "ssmmessages:OpenDataChannel")


def allow(action: Any, **more: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*", **more}]}


def deny(action: Any, **more: Any) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": action, "Resource": "*", **more}}


@pytest.mark.parametrize(
    ("documents", "missing"),
    [
        ([], set(ACTIONS)),
        ([allow("*")], set()),
        ([allow(["ssm:*", "SSMMessages:open*"])], set()),
        ([allow("ssm:UpdateInstanceInformation", Resource="arn:aws:ec2:*:*:instance/*")], {ACTIONS[1]}),
        ([allow("*"), deny("ssmmessages:*")], {ACTIONS[1]}),
        ([allow("*"), deny("ssmmessages:*", Condition={"Bool": {"aws:SecureTransport": "false"}})], set()),
        ([allow("*"), deny("ssmmessages:*", Resource="arn:aws:ssmmessages:x")], set()),
        ([{"Statement": [{"Effect": "Allow", "NotAction": "ssm:*", "Resource": "*"}]}], {ACTIONS[0]}),
    ],
)
def test_policies(documents: list[dict[str, Any]], missing: set[str]) -> None:
    assert missing_actions(documents, ACTIONS) == missing


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        ("amazon-ssm-agent: InvalidSignatureException: Signature expired: 20260101T000000Z is now earlier than", {"clock_wrong"}),
        ("ssm-agent-worker: Post https://ssm.eu-central-1.amazonaws.com/: x509: certificate has expired or is not yet valid", {"clock_wrong"}),
        ("amazon-ssm-agent: AccessDeniedException: User: x is not authorized to perform: ssm:UpdateInstanceInformation", {"role_without_permission"}),
        ("amazon-ssm-agent: RequestError: dial tcp 52.0.0.1:443: i/o timeout", {"no_route"}),
        ("amazon-ssm-agent: lookup ssm.eu-central-1.amazonaws.com: no such host", {"no_route"}),
        ("cloud-init: dial tcp 52.0.0.1:443: i/o timeout", set()),
        ("amazon-ssm-agent: agent started", set()),
    ],
)
def test_console(line: str, codes: set[str]) -> None:
    assert read_console(f"Kernel command line: ro\n{line}\n") == codes


def test_what_the_agent_said_long_ago_is_over() -> None:
    assert read_console("amazon-ssm-agent: AccessDeniedException\n" + "amazon-ssm-agent: all is well\n" * 300) == frozenset()
