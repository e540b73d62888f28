# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Operations of services that speak REST and JSON, by method and path as botocore's models of them have it."""

from __future__ import annotations

import functools
import re

import botocore.exceptions
import botocore.session


def rest_operation(service: str, method: str, path: str) -> str | None:
    """Such as ``CreateFunction``; None if the service is not such a one, or has no operation there.

    :param service: as signatures name it; :param path: without the query.
    """
    path = path.strip("/")
    return next((name for wanted, pattern, name in _operations(service) if wanted == method and pattern.fullmatch(path)), None)


@functools.cache
def _operations(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    try:
        model = botocore.session.Session().get_service_model(service)
    except botocore.exceptions.UnknownServiceError:
        return []
    if model.metadata["protocol"] != "rest-json":
        return []
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        words = re.split(r"\{[^}]*\}", http["requestUri"].partition("?")[0].strip("/"))
        found.append((http["method"], re.compile("[^/]+".join(map(re.escape, words))), name))
    return found
