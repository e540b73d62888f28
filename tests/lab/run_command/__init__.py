# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Command as the service has it: commands, their invocations, who gets them when, and what is told about them.

What decides (`invocation`, `schedule`, `outbox`, `summary`, `parameters`) does no I/O and is given its clock; `service`
joins it to the lab.
"""
