# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`python path/to/plugin_utils/outputs gather DEST/RUN`: go on with a gathering that was interrupted or incomplete, and make the report anew."""

from __future__ import annotations

import sys

if not __package__:  # run by its path: make the folders above it packages, without Ansible's loader
    from pathlib import Path

    _here = Path(__file__).resolve().parent
    if sys.path and Path(sys.path[0] or ".").resolve() == _here:
        del sys.path[0]  # its modules are no top-level ones
    sys.path.insert(0, str(_here.parents[2]))
    __package__ = ".".join((*(folder.name for folder in reversed(_here.parents[:2])), _here.name))
    __spec__ = None  # it would contradict that
    import importlib

    importlib.import_module(__package__)

if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "serve":
        from .gatherer import serve

        sys.exit(serve(sys.argv[2]))
    from .command_line import main

    sys.exit(main(sys.argv[1:]))
