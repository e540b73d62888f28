#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: document
short_description: Documents of AWS Systems Manager, in every account and region
version_added: 0.1.0
author:
  - The fleet.ssm maintainers (@fleet-ssm)
description:
  - Creates, updates, shares, tags and removes Command and Session documents.
  - Installs the collection's own session documents with O(own).
  - Looks at every account and region before it changes any of them, so that one that refuses stops the task before anything is changed.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.tags
  - amazon.aws.boto3
  - fleet.ssm.scope
  - fleet.ssm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description: Whether the document should be there.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: The name of the document. Excludes O(own); one of the two is needed.
    type: str
  own:
    description:
      - The collection's own session documents, whose names and contents are known.
      - V(session) is C(FleetSSM-Input) and C(FleetSSM-Output), for sessions as the session's user. V(root) is C(FleetSSM-RootInput)
        and C(FleetSSM-RootOutput), for P(fleet.ssm.ssm#connection) with C(run_as=root); allow them only to those who may be root.
    type: list
    elements: str
    choices: [session, root]
  content:
    description:
      - The content, as a mapping, or as text of JSON or YAML.
      - Contents are compared by their meaning, so other spaces or another order make no new version.
      - May be left out for a document that exists, to change its tags, its default version, or with whom it is shared.
    type: raw
  document_type:
    description: The type of the document. It cannot be changed.
    type: str
    choices: [Command, Session]
    default: Command
  document_format:
    description: The format in which the content is kept. The default is what O(content) is; JSON for a mapping.
    type: str
    choices: [JSON, YAML]
  version_name:
    description: A name for the version, if one is made.
    type: str
  target_type:
    description: The kind of resource for which the document is, such as V(/AWS::EC2::Instance).
    type: str
  default_version:
    description:
      - V(latest) makes the version that has O(content) the default one. V(keep) leaves the default version as it is.
        A number makes that version the default one.
    type: str
    default: latest
  shared_with:
    description:
      - Account ids with which the document is shared, or V(all) to make it public.
      - If not set, sharing is left as it is.
    type: list
    elements: str
  purge_shared:
    description: Whether accounts that are not in O(shared_with) lose the document.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait for a document or version to become active.
    type: int
    default: 60
notes:
  - Parameters of a document look like templates of Ansible. Mark such text with C(!unsafe), or read the content from a file.
  - Needs C(ssm:DescribeDocument), C(ssm:GetDocument), C(ssm:DescribeDocumentPermission) and C(ssm:ListTagsForResource) to look (the last two only
    with O(shared_with), O(tags) or O(state=absent)), C(ssm:ListDocumentVersions) to find an older version that has O(content), and for changes
    C(ssm:CreateDocument), C(ssm:UpdateDocument), C(ssm:UpdateDocumentDefaultVersion),
    C(ssm:ModifyDocumentPermission), C(ssm:AddTagsToResource), C(ssm:RemoveTagsFromResource) and C(ssm:DeleteDocument).
seealso:
  - plugin: fleet.ssm.ssm
    plugin_type: connection
"""

EXAMPLES = r"""
- name: The collection's session documents, in all accounts and regions
  fleet.ssm.document:
    own: [session]
    regions: [eu-central-1, us-east-1]
    accounts:
      - name: production
        role_arn: arn:aws:iam::111111111111:role/FleetPlatform
      - name: staging
        role_arn: arn:aws:iam::222222222222:role/FleetPlatform

- name: A command of our own, shared with another account
  fleet.ssm.document:
    name: Fleet-Restart
    region: eu-central-1
    content:
      schemaVersion: "2.2"
      description: Restart a unit
      parameters:
        unit:
          type: String
          allowedPattern: "^[a-z0-9@.-]+$"
      mainSteps:
        - name: restart
          action: aws:runShellScript
          inputs:
            runCommand:
              - !unsafe "systemctl restart {{ unit }}"
    shared_with: ["222222222222"]
    tags:
      Team: platform

- name: Back to an older version
  fleet.ssm.document:
    name: Fleet-Restart
    region: eu-central-1
    default_version: "1"

- name: Away with it
  fleet.ssm.document:
    name: Fleet-Restart
    region: eu-central-1
    state: absent
"""

RETURN = r"""
documents:
  description: Each document in each account and region, as it is now, or would be in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    account_id:
      description: The account.
      type: str
    account_name:
      description: Your word for the account.
      type: str
    region:
      description: The region.
      type: str
    changed:
      description: Whether it was changed.
      type: bool
    exists:
      description: Whether it is there.
      type: bool
    default_version:
      description: The version that is used unless another one is named.
      type: str
      returned: if it exists
    latest_version:
      description: The newest version.
      type: str
      returned: if it exists
    shared_with:
      description: With whom it is shared.
      type: list
      elements: str
      returned: if it exists and O(shared_with) is set
    tags:
      description: Its tags.
      type: dict
      returned: if it exists and O(tags) is set
"""

from typing import Any, NoReturn

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.fleet.ssm.plugins.module_utils.accounts import OptionError
from ansible_collections.fleet.ssm.plugins.module_utils.document_plan import (
    Content,
    ContentError,
    PlanError,
    Wanted,
    after,
    plan_absent,
    plan_present,
    view,
)
from ansible_collections.fleet.ssm.plugins.module_utils.document_state import DocumentState
from ansible_collections.fleet.ssm.plugins.module_utils.problems import CollectError, told
from ansible_collections.fleet.ssm.plugins.module_utils.scope import argument_spec, attempt_all, open_places
from ansible_collections.fleet.ssm.plugins.module_utils.session_documents import SETS, own_documents

_RESERVED = ("aws", "amazon", "amzn")


def read_wanted(params: dict[str, Any]) -> list[Wanted]:
    """What the options ask for. :raises OptionError: if they cannot be meant so."""
    if params["own"]:
        if params["content"] is not None:
            raise OptionError("'own' has its contents: remove 'content', or write a 'name'.")
        contents = {name: Content.of(content, params["document_format"]) for name, content in own_documents(*dict.fromkeys(params["own"])).items()}
        return [_wanted(params, name, "Session", content) for name, content in contents.items()]
    name = params["name"]
    if name.lower().startswith(_RESERVED):
        raise OptionError(f"'name': the document {name} belongs to AWS and cannot be changed. Choose a name that does not begin with {', '.join(_RESERVED)}.")
    content = None
    if params["content"] is not None:
        try:
            content = Content.of(params["content"], params["document_format"])
        except ContentError as error:
            raise OptionError(f"'content' cannot be used: {error}") from error
    return [_wanted(params, name, params["document_type"], content)]


def _wanted(params: dict[str, Any], name: str, kind: str, content: Content | None) -> Wanted:
    version = str(params["default_version"]).lower()
    if version not in ("latest", "keep") and not version.isdecimal():
        raise OptionError(f"'default_version' must be 'latest', 'keep' or a number, not {version!r}.")
    shared = params["shared_with"]
    for account in shared or ():
        if account != "all" and not (account.isdecimal() and len(account) == 12):
            raise OptionError(f"'shared_with' takes account ids of 12 digits, in quotes, or 'all', not {account!r}.")
    return Wanted(
        name=name,
        type=kind,
        content=content,
        version_name=params["version_name"],
        target_type=params["target_type"],
        default_version=version,
        tags=None if params["tags"] is None else {str(key): str(value) for key, value in params["tags"].items()},
        purge_tags=params["purge_tags"],
        shared_with=None if shared is None else tuple(dict.fromkeys(shared)),
        purge_shared=params["purge_shared"],
    )


def main() -> NoReturn:
    module = AnsibleAWSModule(
        argument_spec={
            **argument_spec(),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str"},
            "own": {"type": "list", "elements": "str", "choices": list(SETS)},
            "content": {"type": "raw"},
            "document_type": {"type": "str", "choices": ["Command", "Session"], "default": "Command"},
            "document_format": {"type": "str", "choices": ["JSON", "YAML"]},
            "version_name": {"type": "str"},
            "target_type": {"type": "str"},
            "default_version": {"type": "str", "default": "latest"},
            "shared_with": {"type": "list", "elements": "str"},
            "purge_shared": {"type": "bool", "default": True},
            "tags": {"type": "dict", "aliases": ["resource_tags"]},
            "purge_tags": {"type": "bool", "default": True},
            "wait_timeout": {"type": "int", "default": 60},
        },
        mutually_exclusive=[("name", "own")],
        required_one_of=[("name", "own")],
        supports_check_mode=True,
    )
    params = module.params
    absent = params["state"] == "absent"
    try:
        wanted = read_wanted(params)
        opened = open_places(params, "document")
    except OptionError as error:
        module.fail_json(msg=str(error))

    errors = list(opened.errors)
    states = [DocumentState(place, each, wait_timeout=params["wait_timeout"]) for place in opened.places for each in wanted]

    found, refused = attempt_all(lambda state: state.look(absent=absent), states, params["max_workers"])
    errors += refused
    if errors:
        fail(module, errors, "Nothing was changed.")
    try:
        plans = [plan_absent(existing) if absent else plan_present(state.wanted, existing) for state, existing in zip(states, found, strict=True)]
    except PlanError as error:
        module.fail_json(msg=f"{error} Nothing was changed.")

    expected = [after(state.wanted, existing, plan) for state, existing, plan in zip(states, found, plans, strict=True)]
    result: dict[str, Any] = {"changed": any(plans)}
    if module._diff:
        result["diff"] = [
            {"before_header": state.label, "after_header": state.label, "before": view(old), "after": view(new)}
            for state, old, new, plan in zip(states, found, expected, plans, strict=True)
            if plan
        ]
    if not module.check_mode:
        todo = {id(state): plan for state, plan in zip(states, plans, strict=True)}
        errors = attempt_all(lambda state: state.apply(todo[id(state)]), states, params["max_workers"])[1]
        if errors:
            fail(module, errors, "The others were done.", **result)
        expected = [new if not plan else state.result(new) for state, new, plan in zip(states, expected, plans, strict=True)]
    documents = []
    for state, new, plan in zip(states, expected, plans, strict=True):
        shown = {} if new is None else {key: value for key, value in view(new).items() if key != "content"}
        if params["shared_with"] is None:
            shown.pop("shared_with", None)
        if params["tags"] is None:
            shown.pop("tags", None)
        documents.append({"name": state.wanted.name, **state.place.describe(), "exists": new is not None, "changed": bool(plan), **shown})
    module.exit_json(documents=documents, **result)


def fail(module: AnsibleAWSModule, errors: list[CollectError], rest: str, **result: Any) -> NoReturn:
    """Say each place's error once."""
    module.fail_json(msg="\n".join([*told(errors), rest]), **result)


if __name__ == "__main__":
    main()
