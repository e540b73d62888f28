# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mux calls, and one loader of service models for all its clients."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ....module_utils.service_models import lean_loader

if TYPE_CHECKING:
    import botocore.loaders

OPERATIONS = {
    "ssm": frozenset(
        ("StartSession", "ResumeSession", "TerminateSession", "DescribeInstanceInformation", "GetConnectionStatus", "GetDocument",
         "SendCommand", "ListCommands", "ListCommandInvocations", "GetCommandInvocation", "CancelCommand")
    ),
    "sts": frozenset(("AssumeRole", "GetCallerIdentity")),
    "kms": frozenset(("Decrypt", "GenerateDataKey")),
    "s3": frozenset(("PutObject", "GetObject", "DeleteObject", "HeadBucket")),
    "sqs": frozenset(
        ("CreateQueue", "GetQueueAttributes", "SetQueueAttributes", "DeleteQueue", "ListQueues", "ReceiveMessage", "DeleteMessageBatch")
    ),
    "sns": frozenset(("Subscribe", "Unsubscribe", "ListSubscriptionsByTopic")),
}  # fmt: skip
"""What of each service's model is kept."""


@functools.cache
def shared_loader() -> botocore.loaders.Loader:
    """One loader for all clients."""
    return lean_loader(OPERATIONS)


def preload() -> None:
    """Load what every StartSession needs; called in a thread while the first worker is still on its way."""
    loader = shared_loader()
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("ssm", kind)
    import botocore.session

    botocore.session.Session().register_component("data_loader", loader)
