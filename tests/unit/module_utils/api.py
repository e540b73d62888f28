# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API of one account with answers that a test gives, in the place of its clients."""

from __future__ import annotations

from typing import Any, cast

from ansible_collections.fleet.ssm.plugins.module_utils.accounts import Account
from ansible_collections.fleet.ssm.plugins.module_utils.clients import AccountClients
from ansible_collections.fleet.ssm.plugins.module_utils.problems import CollectError
from ansible_collections.fleet.ssm.plugins.module_utils.scope import Place

HUB, REGION = "111111111111", "eu-central-1"


class Refusal(Exception):
    """What botocore raises for an error of AWS."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code, "Message": f"AWS says {code}"}}


class Api:
    """Notes the calls.

    :param answers: by operation, a mapping, a function of the parameters that gives one, or the code of a refusal; others are answered by nothing.
    """

    def __init__(self, **answers: Any) -> None:
        self.account = Account(name="hub")
        self.answers = answers
        self.calls: list[tuple[str, str]] = []  #: regions and operations

    @property
    def operations(self) -> list[str]:
        return [operation for _region, operation in self.calls]

    def place(self, region: str = REGION) -> Place:
        return Place(self.account, region, cast(AccountClients, self))

    def account_id(self) -> str:
        return HUB

    def call(self, _service: str, operation: str, *, region: str, **parameters: Any) -> Any:
        self.calls.append((region, operation))
        answer = self.answers.get(operation, {})
        if callable(answer):
            answer = answer(**parameters)
        if isinstance(answer, str):
            raise CollectError(self.account, region, operation, f"{operation} is refused.", "", Refusal(answer))
        return answer
