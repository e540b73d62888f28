# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ssm
author:
  - The fleet.ssm maintainers (@fleet-ssm)
version_added: 0.1.0
short_description: connect to nodes through AWS Systems Manager
description:
  - Runs commands and transfers files on EC2 instances and hybrid nodes through Session Manager, without SSH, without the
    C(session-manager-plugin) binary and without a bucket.
  - Sessions are held open by a process of their own (the mux) and shared by all tasks, forks and playbooks of a user; a
    task makes no AWS API call. C(python …/ansible_collections/fleet/ssm/plugins/plugin_utils/mux status) shows what is open,
    C(… stop) ends it, C(… doctor HOST) says which layer fails on the way to a node.
  - Standard output, standard error and exit status arrive exactly as the command gave them.
notes:
  - C(remote_user) and C(ansible_user) have no effect, as the user of a session is determined by AWS, see O(run_as). The user that
    the session has is what Ansible takes as the remote user in its decisions.
  - A command that may have been started is never started again. If its outcome cannot be known, the host becomes unreachable for the play,
    with a message that says so.
  - O(silence_timeout) is about silence of the connection. A command may run as long as it likes.
requirements:
  - botocore, websockets and cryptography on the controller, see C(requirements.txt) of the collection
  - amazon-ssm-agent 3.0 or newer on the node
extends_documentation_fragment:
  - fleet.ssm.connection
  - fleet.ssm.connection.aws_ssm
options:
  pipelining:
    description:
      - Send modules by the command's standard input instead of as files. It needs no change of C(requiretty) here.
    type: bool
    default: true
    version_added: 0.1.0
    vars:
      - name: ansible_pipelining
      - name: ansible_ssm_pipelining
    env:
      - name: FLEET_SSM_PIPELINING
    ini:
      - section: fleet_ssm
        key: pipelining
"""

EXAMPLES = r"""
- name: Any play, on nodes named by id, by Name tag or by another tag
  hosts: web
  vars:
    ansible_connection: fleet.ssm.ssm
    ansible_ssm_host: "{{ instance_id }}" # unless the inventory's names are ids or Name tags
    ansible_ssm_region: eu-central-1
  tasks:
    - name: Say who is there
      ansible.builtin.command: hostname
      changed_when: false

- name: A host in another account
  hosts: db
  vars:
    ansible_connection: fleet.ssm.ssm
    ansible_ssm_role_arn: arn:aws:iam::222222222222:role/FleetOperator
    ansible_ssm_external_id: example
  tasks:
    - name: Restart the database
      ansible.builtin.service:
        name: postgresql
        state: restarted
      become: true
"""

from ansible_collections.fleet.ssm.plugins.plugin_utils import bytecode

with bytecode.kept():
    from ansible_collections.fleet.ssm.plugins.plugin_utils import connection_options
    from ansible_collections.fleet.ssm.plugins.plugin_utils.connection import Connection

__all__ = ("Connection",)

connection_options.register(__name__)
