# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that say which EC2 instances a module is about."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  instance_ids:
    description: Only these instances. One of O(instance_ids) and O(filters) is needed.
    type: list
    elements: str
    default: []
  filters:
    description:
      - Only instances that match all of these; a name of a filter of C(DescribeInstances), and a value or a list of values, with the
        wildcards V(*) and V(?).
    type: dict
    default: {}
  exclude_filters:
    description: A list of mappings as in O(filters). An instance that matches any of them is left out.
    type: list
    elements: dict
    default: []
"""
