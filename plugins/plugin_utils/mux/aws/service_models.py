# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the mux calls, and one loader of service models for all its clients."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
    """One loader for all clients, whose service models hold only the operations in use (whole ones cost 10 MB and more)."""
    import botocore.loaders

    class Loader(botocore.loaders.Loader):  # type: ignore[misc]
        @botocore.loaders.instance_cache  # type: ignore[untyped-decorator]
        def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
            kept = OPERATIONS.get(service_name)
            if type_name != "service-2" or kept is None:
                return super().load_service_model(service_name, type_name, api_version)
            # By a loader of its own, as a loader keeps what it has read.
            model = dict(botocore.loaders.Loader().load_service_model(service_name, type_name, api_version))
            model["operations"] = {name: value for name, value in model["operations"].items() if name in kept}
            model["shapes"] = _shapes_of(model)
            return model

    return Loader()


def _shapes_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes that the model's operations refer to, directly or not."""
    shapes = model["shapes"]
    found: dict[str, Any] = {}
    waiting: list[Any] = list(model["operations"].values())
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            name = item.get("shape")
            if isinstance(name, str) and name in shapes and name not in found:
                found[name] = shapes[name]
                waiting.append(shapes[name])
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return found


def preload() -> None:
    """Load what every StartSession needs; called in a thread while the first worker is still on its way."""
    loader = shared_loader()
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("ssm", kind)
    import botocore.session

    botocore.session.Session().register_component("data_loader", loader)
