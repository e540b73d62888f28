# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of folders, made of what people call plays, tasks and hosts. No I/O."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

LONGEST = 96
"""Bytes of a name in UTF-8. File systems take 255; the path as a whole has to stay below 4,096."""

_KEPT = frozenset("-_.,+=@~")
_PLACEHOLDER = re.compile(r"\{([a-z_]*)\}")


def safe_name(text: str) -> str:
    """A name for a file or folder: letters, marks and digits of any script stay, and everything else becomes ``_``.

    It is never empty, never ``.`` or ``..`` and never hidden, has no quotes, slashes, blanks or control characters, and at most `LONGEST` bytes.
    """
    normal = unicodedata.normalize("NFC", text)
    kept = "".join(letter if letter in _KEPT or unicodedata.category(letter)[0] in "LMN" else "_" for letter in normal)
    name = re.sub(r"_{2,}", "_", kept).strip("_").lstrip(".~-")
    # Cut between characters; an ending half of one goes away.
    return name.encode("utf-8")[:LONGEST].decode("utf-8", "ignore").rstrip("_") or "_"


class Names:
    """The names of one folder: each is given out once, also where file systems do not tell capitals apart."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, text: str) -> str:
        """A safe name that was not given out before; a second one of the same kind ends with ``~2``."""
        first = name = safe_name(text)
        number = 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{first}~{number}"
        self._taken.add(name.casefold())
        return name


class TemplateError(ValueError):
    """A template names something that there is not."""


def fill(template: str, values: Mapping[str, str], option: str) -> str:
    """Put values into the ``{placeholders}`` of an option.

    :param values: for each placeholder a text; it is put in as a safe name, or not at all if it is empty.
    :raises TemplateError: for an unknown placeholder; the text names the option and what there is.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in values:
            raise TemplateError(f"'{option}' has the placeholder {{{name}}}. There are: {', '.join(f'{{{known}}}' for known in sorted(values))}.")
        return safe_name(values[name]) if values[name] else ""

    return _PLACEHOLDER.sub(value, template)
