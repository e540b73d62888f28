# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognises a Python module that ansible-core sends over pipelining, and takes it apart. Controller side, without I/O.

The only file that knows ansible-core's own texts: the command line which starts the interpreter, the wrapper ("AnsiballZ") which that
interpreter reads from its standard input, and the small commands around file transfers. All have a strict grammar here (tried against
ansible-core 2.18 to 2.21). What is not recognised to the last byte gives None, and is then run as any other command.

A recognised job is the constant part of the wrapper and its zip (the *recipe*, cached by the node), and what is new in each task.
"""

from __future__ import annotations

import ast
import base64
import binascii
import hashlib
import re
import shlex
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ..frames import fields
from . import archive

# The command line.

_WORD: Final = r"[\w@%+=:,./-]+"
_PROGRAM: Final = r"[\w./+-]+"
_ID: Final = r"[a-z]{32}"

_SHELL = re.compile(rf"(?P<shell>/{_PROGRAM}) -c (?P<script>.+)", re.DOTALL | re.ASCII)
_BECOME = re.compile(
    rf"(?P<before>(?:/{_PROGRAM}/)?(?P<method>sudo|su|doas) (?:{_WORD} | |-p \"\[sudo via ansible, key=(?P<prompt>{_ID})\] password:\" )*)"
    rf"-c (?P<script>'.+')",
    re.DOTALL | re.ASCII,
)
_SUCCESS = re.compile(rf"echo BECOME-SUCCESS-(?P<id>{_ID}) ; (?P<module>.+)", re.DOTALL | re.ASCII)
_ASSIGNMENT = re.compile(rf"(?P<name>[A-Za-z_]\w*)=(?P<value>(?:{_WORD}|'[^']*'|\"'\")+) ", re.DOTALL | re.ASCII)
_INTERPRETER = re.compile(r"/(?:[\w.+-]+/)*python[\d.]*", re.ASCII)
_PAUSE: Final = " && sleep 0"


@dataclass(frozen=True)
class _Become:
    before: str
    """Everything up to ``-c``: an option of the new user's shell, or of su itself."""
    shell: str | None
    """With su, the shell that its script begins with."""
    id: str


@dataclass(frozen=True)
class _Command:
    shell: str
    pause: bool
    become: _Become | None
    environment: tuple[tuple[str, str], ...]
    interpreter: str

    def text(self) -> str:
        script = " ".join([*(f"{name}={shlex.quote(value)}" for name, value in self.environment), self.interpreter])
        if self.become is not None:
            script = shlex.quote(f"echo BECOME-SUCCESS-{self.become.id} ; {script}")
            if self.become.shell is not None:
                script = shlex.quote(f"{self.become.shell} -c {script}")
            script = f"{self.become.before}-c {script}"
        return f"{self.shell} -c {shlex.quote(script + _PAUSE * self.pause)}"


def _parse_command(text: str) -> _Command | None:
    outer = _SHELL.fullmatch(text)
    script = _unquote(outer["script"]) if outer else None
    if outer is None or script is None:
        return None
    pause = script.endswith(_PAUSE)
    if pause:
        script = script[: -len(_PAUSE)]
    become = None
    if "BECOME-SUCCESS-" in script:
        parsed = _parse_become(script)
        if parsed is None:
            return None
        become, script = parsed
    environment = []
    while assignment := _ASSIGNMENT.match(script):
        if (value := _unquote(assignment["value"])) is None:
            return None
        environment.append((assignment["name"], value))
        script = script[assignment.end() :]
    if not _INTERPRETER.fullmatch(script):
        return None
    command = _Command(outer["shell"], pause, become, tuple(environment), script)
    return command if command.text() == text else None


def _parse_become(script: str) -> tuple[_Become, str] | None:
    outer = _BECOME.fullmatch(script)
    inside = _unquote(outer["script"]) if outer else None
    if outer is None or inside is None:
        return None
    shell = _SHELL.fullmatch(inside) if outer["method"] == "su" else None
    if shell is not None:
        inside = _unquote(shell["script"]) or ""
    success = _SUCCESS.fullmatch(inside)
    if success is None or outer["prompt"] not in (None, success["id"]):
        return None
    return _Become(outer["before"], shell["shell"] if shell else None, success["id"]), success["module"]


def _unquote(text: str) -> str | None:
    """What ``shlex.quote`` was given, if `text` is its answer."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    return words[0] if len(words) == 1 and shlex.quote(words[0]) == text else None


# The wrapper.

_ZIP: Final = "z"
_DATE: Final = "d"
_PARAMS: Final = "p"

_KEYWORD_CALL: Final = '\n\n\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_KEYWORDS = re.compile(
    r"ansible_module='[\w.]+',\nmodule_fqn='[\w.]+',\nprofile='\w+',\n"
    r"date_time=(?P<d>datetime\.datetime\([\d, ]+, tzinfo=datetime\.timezone\.utc\)),\nrlimit_nofile=\d+,\n"
    r"params=(?P<p>'[^\n]*'|\"[^\n]*\"),\nextensions=\{\},\nzip_data='(?P<z>[^'\n]*)',\n\)\n",
    re.ASCII,
)
_TEMPLATE = re.compile(
    r"[^\n]*\n# -\*- coding: utf-8 -\*-\n_ANSIBALLZ_WRAPPER = True .*?"
    r"\n    ZIPDATA = '(?P<z>[^'\n]*)'\n.*?"
    r"\n        zinfo\.date_time = (?P<d>\(\d+(?:, \d+){5}\))\n.*?"
    r"\n    ANSIBALLZ_PARAMS = (?P<p>'[^\n]*'|\"[^\n]*\")\n.*\nif __name__ == '__main__':\n    _ansiballz_main\(\)\n?",
    re.DOTALL,
)


def _holes(wrapper: str) -> dict[str, tuple[int, int]] | None:
    """Where in the wrapper's text the zip (without quotes), the date and the parameters are: start and end by name, in their order."""
    # The order of parameters in the wrapper of 2.19 and later; its last lines are one call of keyword arguments.
    at = wrapper.rfind(_KEYWORD_CALL)
    if at >= 0 and "\n_ANSIBALLZ_WRAPPER = True\n" in wrapper[:at]:
        match = _KEYWORDS.fullmatch(wrapper, at + len(_KEYWORD_CALL))
    else:
        match = _TEMPLATE.fullmatch(wrapper)
    if match is None:
        return None
    return dict(sorted(((name, match.span(name)) for name in (_ZIP, _DATE, _PARAMS)), key=lambda hole: hole[1]))


@dataclass(frozen=True)
class Recipe:
    """The constant part of a module's payload, for one module and one state of the controller's installation."""

    key: bytes
    """SHA-256 of the recipe's own blob. Every blob is known by its SHA-256."""
    blobs: Mapping[bytes, bytes]
    """The recipe's blob (wrapper text, headers of the zip, hashes of its members) and the members as they are stored."""


@dataclass(frozen=True)
class WarmJob:
    command: str
    """Starts the interpreter that this job would have: ansible-core's own command."""
    key: str
    """Equal for all jobs that one warm interpreter may serve: `command` without what is random in it."""
    special: bool
    """Whether the task has an environment of its own. Such an interpreter may never be needed again."""
    success: str
    """The line that become prints first (without end of line), or nothing."""
    recipe: Recipe
    time: bytes
    """Of the zip's members, in the format of MS-DOS."""
    date: str
    params: str
    """The text of the two expressions as they stand in the wrapper. `params` holds the module's arguments: never cache or log it."""
    params_at: tuple[int, int]
    """Where in the wrapper's text `params` is: start and end."""

    def encode(self) -> bytes:
        """For the node, without the recipe's blobs."""
        return fields([self.recipe.key, self.time, self.success.encode(), self.date.encode(), self.params.encode()])


@dataclass
class Recipes:
    """The recipes seen last. The same module comes again with the same zip in all tasks of a run."""

    limit: int = 64
    _recipes: OrderedDict[bytes, tuple[Recipe, bytes] | None] = field(default_factory=OrderedDict)

    def find(self, order: str, pieces: list[str], zip_data: str) -> tuple[Recipe, bytes] | None:
        """The recipe of these parts and the time in its zip; None if the zip is not as expected."""
        digest = hashlib.sha256("\0".join([order, *pieces, zip_data]).encode()).digest()
        if digest in self._recipes:
            self._recipes.move_to_end(digest)
        else:
            self._recipes[digest] = self._make(order, pieces, zip_data)
            if len(self._recipes) > self.limit:
                self._recipes.popitem(last=False)
        return self._recipes[digest]

    def _make(self, order: str, pieces: list[str], zip_data: str) -> tuple[Recipe, bytes] | None:
        try:
            parts = archive.split(base64.b64decode(zip_data, validate=True))
        except binascii.Error:
            return None
        if parts is None or base64.b64encode(archive.join(*parts)).decode() != zip_data:
            return None
        # Recipes share nearly all of their members: keep each of them once.
        known = {digest: blob for entry in self._recipes.values() if entry for digest, blob in entry[0].blobs.items()}
        blobs = {}
        for member in parts.members:
            digest = hashlib.sha256(member).digest()
            blobs[digest] = known.get(digest, member)
        hashes = b"".join(hashlib.sha256(member).digest() for member in parts.members)
        blob = fields([order.encode(), *(piece.encode() for piece in pieces), parts.skeleton, hashes])
        key = hashlib.sha256(blob).digest()
        return Recipe(key, {key: blob, **blobs}), parts.time


def split(command: str, stdin: bytes, recipes: Recipes) -> WarmJob | None:
    """The parts of a module that `command` and `stdin` run, or None if that is not what they do."""
    parsed = _parse_command(command)
    if parsed is None:
        return None
    try:
        wrapper = stdin.decode()
    except UnicodeDecodeError:
        return None
    holes = _holes(wrapper)
    if holes is None or not _is_string_literal(text := wrapper[slice(*holes[_PARAMS])]):
        return None
    ends = [0, *(at for span in holes.values() for at in span), len(wrapper)]
    pieces = [wrapper[start:end] for start, end in zip(ends[::2], ends[1::2], strict=True)]
    found = recipes.find("".join(holes), pieces, wrapper[slice(*holes[_ZIP])])
    if found is None:
        return None
    recipe, time = found
    id_ = parsed.become.id if parsed.become else ""
    return WarmJob(
        command=command,
        key=command.replace(id_, "*") if id_ else command,
        special=bool(parsed.environment),
        success=f"BECOME-SUCCESS-{id_}" if id_ else "",
        recipe=recipe,
        time=time,
        date=wrapper[slice(*holes[_DATE])],
        params=text,
        params_at=holes[_PARAMS],
    )


def _is_string_literal(text: str) -> bool:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(value, str) and repr(value) == text


# Errands.

_HOME = re.compile(r"echo ~(?P<user>[a-z_][a-z0-9_-]*)?", re.ASCII)
_TEMPORARY: Final = r"ansible-tmp-[\d.]+-\d+-\d+"
_FOLDER: Final = r"~?(?:/[\w.+-]+)+"
_MKDTEMP = re.compile(
    rf'\( umask 77 && mkdir -p "` echo (?P<base>{_FOLDER}) `"&& mkdir "` echo (?P<path>(?P=base)/(?P<name>{_TEMPORARY})) `"'
    r' && echo (?P=name)="` echo (?P=path) `" \)',
    re.ASCII,
)
_REMOVE = re.compile(rf"rm -f -r (?P<path>(?:/[\w.+-]+)+/{_TEMPORARY}/?) > /dev/null 2>&1", re.ASCII)
_CHMOD = re.compile(r"chmod u\+rwx(?P<paths>(?: /[\w@%+=:,./-]*)+)", re.ASCII)


@dataclass(frozen=True)
class Errand:
    """A command around a file transfer, in words that need no shell. The node runs the command itself if anything is unusual."""

    what: Literal["home", "mkdtemp", "chmod", "remove"]
    arguments: tuple[str, ...]
    """home: the user, or nothing for the session's own; mkdtemp: the folder it is in, its name; chmod (u+rwx): paths; remove: the path."""


def errand(command: str) -> Errand | None:
    """Which of ansible-core's commands around temporary directories, for the session's own user, this is."""
    outer = _SHELL.fullmatch(command)
    script = _unquote(outer["script"]) if outer and outer["shell"] == "/bin/sh" else None
    if script is None:
        return None
    script = script.removesuffix(_PAUSE)
    if match := _HOME.fullmatch(script):
        return Errand("home", (match["user"] or "",))
    if match := _MKDTEMP.fullmatch(script):
        return Errand("mkdtemp", (match["base"], match["name"]))
    if match := _REMOVE.fullmatch(script):
        return Errand("remove", (match["path"],))
    if match := _CHMOD.fullmatch(script):
        return Errand("chmod", tuple(match["paths"].split()))
    return None
