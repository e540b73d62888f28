# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several files about the connection need of the account around it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab import Lab

BEFORE = {"s3_clock_ahead": 0.0, "delivery_second": 1.0}
"""Settings of the lab that tests change."""


@pytest.fixture
def faults(lab: Lab) -> Iterator[Lab]:
    """The lab, without a fault, a rule or a wrong clock before and afterwards."""
    yield lab
    lab.clear_faults()
    lab.clear_permissions()
    lab.settings(**BEFORE)


@pytest.fixture
def topic(lab: Lab) -> Iterator[str]:
    """To which the events about invocations go, as an administrator has set it up."""
    pattern = {"source": ["aws.ssm"], "detail-type": ["EC2 Command Invocation Status-change Notification"]}
    arn: str = lab.client("sns").create_topic(Name="fleet-ssm-invocations")["TopicArn"]
    events = lab.client("events")
    events.put_rule(Name="fleet-ssm-invocations", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="fleet-ssm-invocations", Targets=[{"Id": "topic", "Arn": arn}])
    yield arn
    events.remove_targets(Rule="fleet-ssm-invocations", Ids=["topic"])
    events.delete_rule(Name="fleet-ssm-invocations")
    lab.client("sns").delete_topic(TopicArn=arn)
    lab.clear_faults()
