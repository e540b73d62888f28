# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that say in which accounts and regions a module works: those of the inventory plugin, for modules."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  regions:
    description:
      - The regions, for accounts that do not name their own with O(accounts[].regions).
      - V(all) is every region that is enabled in the account (C(ec2:DescribeRegions)).
      - If empty, the one region of O(region), of the profile, or of the environment.
    type: list
    elements: str
    default: []
  accounts:
    description:
      - The accounts. If this and O(organization) are empty, the one account of O(profile), O(access_key), or the environment.
      - An entry without O(accounts[].profile) and O(accounts[].access_key) starts from the credentials that stand beside this option or
        in the environment, so that one hub account can assume a role in all others.
      - Modules and the inventory have it in the same shape, so that one table of the estate serves them all.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Your word for the account, in messages and results.
        type: str
      profile:
        description: A named profile.
        type: str
        aliases: [aws_profile]
      access_key:
        description: An access key. Better use O(accounts[].profile) or O(accounts[].role_arn).
        type: str
        aliases: [aws_access_key_id, aws_access_key]
      secret_key:
        description: The secret of O(accounts[].access_key).
        type: str
        aliases: [aws_secret_access_key, aws_secret_key]
      session_token:
        description: The session token of temporary keys.
        type: str
        aliases: [aws_session_token]
      role_arn:
        description: The ARN of a role to assume.
        type: str
        aliases: [assume_role_arn, iam_role_arn]
      external_id:
        description: The external id that the trust policy of the role asks for. The default is O(external_id).
        type: str
      role_session_name:
        description: The name of the session in the audit trail of the account. The default is O(role_session_name).
        type: str
      regions:
        description: Regions of this account. The default is O(regions).
        type: list
        elements: str
  organization:
    description:
      - Further accounts, those that AWS Organizations lists as active (C(organizations:ListAccounts)).
      - Each is reached by a role of the same name, which is assumed from the credentials that stand beside this option or in the
        environment. The management account itself is reached by these credentials, if they are its own.
      - An account that has an entry in O(accounts) as well is taken as the entry says.
      - AWS answers only the management account and delegated administrators.
    type: dict
    suboptions:
      role_name:
        description: The name of the role to assume in each account, with its path if it has one.
        type: str
        required: true
      units:
        description:
          - Ids of organizational units or roots (C(ou-...), C(r-...)). Only accounts anywhere below them are taken.
          - Needs C(organizations:ListAccountsForParent) and C(organizations:ListOrganizationalUnitsForParent) in place of C(organizations:ListAccounts).
        type: list
        elements: str
        default: []
      exclude:
        description: Ids or names of accounts to leave out. An id is written in quotes, since YAML takes leading zeros from a number.
        type: list
        elements: str
        default: []
  external_id:
    description: The external id that the trust policies of the roles in O(accounts) and O(organization) ask for.
    type: str
  role_session_name:
    description: The name under which an assumed role appears in the audit trail of an account.
    type: str
    default: fleet.ssm
  max_workers:
    description: Accounts and regions, or instances in them, that are worked on at once.
    type: int
    default: 16
"""
