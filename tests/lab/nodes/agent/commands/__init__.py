# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Command on the node: from an agent_job, or a message of ec2messages, to its replies.

`pool` decides what runs when, `worker` is the process of one document, `runner` goes through its steps, one file for
each kind of step. What must survive the agent and the node is in files (`store`). Standard library only.
Facts are those of amazon-ssm-agent 3.3, read in its source or seen with its programs.
"""
