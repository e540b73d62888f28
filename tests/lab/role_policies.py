# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the policies of a role in IAM allow: simulated for controllers, and held against nodes if the setting `node_policies` says so.

Actions and resources are looked at; conditions and permissions boundaries are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

from . import moto_bridge
from .auth import Principal
from .errors import AwsError
from .moto_bridge import Answer
from .permissions import Rule, rules_of_policy


def rules_of_role(account: str, name: str) -> list[Rule]:
    """The rules that a role's managed and inline policies mean."""
    return [rule for document in moto_bridge.role_documents(account, name) for rule in rules_of_policy("*", document)]


def simulate(account: str, form: Mapping[str, str]) -> Answer:
    """SimulatePrincipalPolicy, for roles. Raises `AwsError` in IAM's words."""
    arn = form.get("PolicySourceArn", "")
    name = arn.rpartition("/")[2]
    role = moto_bridge.role_of(account, name)
    if role is None or ":role/" not in arn:
        raise AwsError("NoSuchEntity", f"The entity {arn} cannot be found.", 404)
    rules, caller = rules_of_role(account, name), Principal(account, arn, name, role=name)
    members = []
    for action in _members(form, "ActionNames"):
        for resource in _members(form, "ResourceArns") or ["*"]:
            matching = {rule.effect for rule in rules if rule.matches(caller, action, resource)}
            decision = "explicitDeny" if "deny" in matching else "allowed" if matching else "implicitDeny"
            members.append(
                f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>{escape(resource)}</EvalResourceName>"
                f"<EvalDecision>{decision}</EvalDecision><MatchedStatements/><MissingContextValues/></member>"
            )
    text = (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><SimulatePrincipalPolicyResult>'
        f"<IsTruncated>false</IsTruncated><EvaluationResults>{''.join(members)}</EvaluationResults></SimulatePrincipalPolicyResult>"
        "<ResponseMetadata><RequestId>lab</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>"
    )
    return Answer(200, [("Content-Type", "text/xml")], text.encode())


def _members(form: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in form.items() if key.startswith(f"{name}.member.")]
