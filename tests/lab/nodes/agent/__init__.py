# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's program that speaks the protocol of amazon-ssm-agent 3.3, with its quirks.

It runs inside a node and knows nothing of the lab: standard library, `websockets`, and `cryptography` where keys are
needed. Python 3.11 is enough, so that it runs as a service on a Debian 12 machine too.
"""
