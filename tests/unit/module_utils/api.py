# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""AWS by HTTP with answers that a test gives, and clients for it."""

from __future__ import annotations

from typing import Any

from botocore import xform_name
from botocore.exceptions import ClientError

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import Account, BaseIdentity
from ansible_collections.fleet.ssm.plugins.module_utils.clients import AccountClients, ClientPool
from ansible_collections.fleet.ssm.plugins.module_utils.scope import Place
from tests.unit.aws_endpoint import Answer, Endpoint

HUB, REGION = "111111111111", "eu-central-1"


def refusal(operation: str, code: str, message: str = "no", status: int = 400) -> ClientError:
    """What a service raises that refuses."""
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation)


class Api(Endpoint):
    """It goes from test to test, as making clients takes most of the time."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._answers: dict[str, Any] = {}
        self._services: dict[str, Any] = {}  # by access key
        self._pool = ClientPool(region=REGION, endpoint_url=self.url, retries=False)
        self._hub = self._account("HUB")

    def answer(self, **answers: Any) -> None:
        """From now on, by action: with a mapping, what a function of the parameters gives, or a refusal of a code; to others with nothing."""
        self._answers = {"GetCallerIdentity": {"Account": HUB}, **answers}
        self.seen.clear()

    def place(self, region: str = REGION, service: Any = None) -> Place:
        """Of the account that is answered so; or of one whose calls go to the methods of a service, named as those of botocore's client."""
        clients = self._hub if service is None else self._account(f"KEY{len(self._services)}", service)
        return Place(clients.account, region, clients)

    def _account(self, key: str, service: Any = None) -> AccountClients:
        self._services[key] = service
        return AccountClients(self._pool, Account(base=BaseIdentity(access_key=key, secret_key="secret"), name="hub"))

    def _answer(self, action: str, key: str, parameters: dict[str, Any]) -> Answer:
        method = getattr(self._services[key], xform_name(action), None)
        try:
            return 200, method(**parameters) if method else self._given(action, parameters)
        except ClientError as error:
            refused = error.response["Error"]
            return error.response["ResponseMetadata"]["HTTPStatusCode"], {"__type": refused["Code"], "message": refused["Message"]}

    def _given(self, action: str, parameters: dict[str, Any]) -> Any:
        answer = self._answers.get(action, {})
        if callable(answer):
            answer = answer(parameters)
        if isinstance(answer, str):
            raise refusal(action, answer)
        return answer
