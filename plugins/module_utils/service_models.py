# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of AWS's services without what nobody here calls or reads: whole ones cost 10 MB and more, and time for each client.

botocore is imported late, since the mux knows what it will call before botocore is there.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.loaders import Loader


def lean_loader(operations: Mapping[str, Collection[str]], members: Mapping[str, Mapping[str, Collection[str]]] | None = None) -> Loader:
    """A loader for all clients, of all threads.

    :param operations: what is kept of each service. Services that are not named are kept whole.
    :param members: by service and shape, the members to keep. Of other shapes all are.
    """
    import botocore.loaders

    class LeanLoader(botocore.loaders.Loader):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._lock = threading.Lock()
            self._lean: dict[tuple[str, str, str | None], Any] = {}

        def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
            if service_name not in operations:
                return super().load_service_model(service_name, type_name, api_version)
            key = service_name, type_name, api_version
            with self._lock:  # sessions of several identities load at once, and one parse is enough for all
                if key not in self._lean:
                    # By a loader of its own, as a loader keeps what it has read. It need not look into 400 folders to know that the service is there.
                    other = botocore.loaders.Loader()
                    other.list_available_services = lambda type_name: [service_name]
                    found = other.load_service_model(service_name, type_name, api_version)
                    lean = type_name == "service-2"
                    self._lean[key] = _lean(found, operations[service_name], (members or {}).get(service_name, {})) if lean else found
                return self._lean[key]

    return LeanLoader()


def _lean(model: Mapping[str, Any], operations: Collection[str], members: Mapping[str, Collection[str]]) -> dict[str, Any]:
    kept = {name: model["operations"][name] for name in operations}
    shapes = dict(model["shapes"])
    for name, wanted in members.items():
        shapes[name] = {**shapes[name], "members": {key: value for key, value in shapes[name]["members"].items() if key in wanted}}
    return {**model, "operations": kept, "shapes": _reached(kept, shapes)}


def _reached(operations: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes that operations refer to, directly or not."""
    found: dict[str, Any] = {}
    waiting: list[Any] = list(operations.values())
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
