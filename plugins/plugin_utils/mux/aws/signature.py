# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The signature of the one request to AWS that botocore does not make itself: the websocket of a data channel."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

_SERVICE = "ssmmessages"
_SCHEMES = {"wss": "https", "ws": "http"}  # the default ports, which are no part of the header Host, go by it


def websocket_headers(url: str, credentials: Any, region: str) -> dict[str, str]:
    """Headers that sign a GET of a StreamUrl, as the action ``ssmmessages:OpenDataChannel``.

    :param credentials: botocore's, frozen.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    parts = urlsplit(url)
    # The service puts base64 into the query as it is. AWS's client signs what it means when it is decoded, "+" being a blank.
    query = parse_qsl(parts.query, keep_blank_values=True)
    request = AWSRequest("GET", urlunsplit(parts._replace(scheme=_SCHEMES.get(parts.scheme, parts.scheme), query="")), params=query)
    SigV4Auth(credentials, _SERVICE, region).add_auth(request)
    return dict(request.headers)
