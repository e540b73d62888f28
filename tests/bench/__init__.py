# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measurements: fleet.ssm.ssm beside ssh, Mitogen and local, on the same nodes, in one run (``make bench``)."""
