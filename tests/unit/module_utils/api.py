# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One account's AWS by HTTP, with answers that a test gives."""

from __future__ import annotations

from typing import Any

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import Account, BaseIdentity
from ansible_collections.fleet.ssm.plugins.module_utils.clients import AccountClients, ClientPool
from ansible_collections.fleet.ssm.plugins.module_utils.scope import Place
from tests.unit.aws_endpoint import Answer, Endpoint

HUB, REGION = "111111111111", "eu-central-1"


class Api(Endpoint):
    """Its clients go from test to test, as making them takes most of the time."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._answers: dict[str, Any] = {}
        account = Account(base=BaseIdentity(access_key="KEY", secret_key="secret"), name="hub")
        self._clients = AccountClients(ClientPool(region=REGION, endpoint_url=self.url), account)

    def answer(self, **answers: Any) -> None:
        """From now on, by action: with a mapping, what a function of the parameters gives, or a refusal of a code; to others with nothing."""
        self._answers = {"GetCallerIdentity": {"Account": HUB}, **answers}
        self.seen.clear()

    def place(self, region: str = REGION) -> Place:
        return Place(self._clients.account, region, self._clients)

    def _answer(self, action: str, _key: str, parameters: dict[str, Any]) -> Answer:
        answer = self._answers.get(action, {})
        if callable(answer):
            answer = answer(parameters)
        return (400, {"__type": answer, "message": f"AWS says {answer}"}) if isinstance(answer, str) else (200, answer)
