# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the callback plugin `outputs` does: files of outputs and their index, gathering from S3, and the report.

Files without I/O: `names`, `results`, `lookup`, `faults`, `s3_address`, `figures`, `report`, `page`. I/O: `disk` (files), `gatherer` (a process of its
own, with S3), `client` (its other end, in ansible-playbook).
"""
