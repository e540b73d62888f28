# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the agent splits the command of a NonInteractiveCommands session into words, without any shell.

Quotes as in a shell, with two differences: in double quotes a backslash makes *any* next character literal, and a
number sign begins a comment only at the start of a word.
"""

from __future__ import annotations

from collections.abc import Iterator


class UnfinishedError(ValueError):
    """A quote or an escape without its end."""


def split(text: str) -> list[str]:
    """The words of `text`. Raises UnfinishedError."""
    words: list[str] = []
    word: list[str] | None = None
    rest = iter(text)
    for character in rest:
        if character in " \t\r\n":
            if word is not None:
                words.append("".join(word))
            word = None
        elif character == "#" and word is None:
            for skipped in rest:
                if skipped == "\n":
                    break
        else:
            word = [] if word is None else word
            if character in "'\"":
                _quoted(character, rest, word)
            elif character == "\\":
                word.append(_next(rest))
            else:
                word.append(character)
    if word is not None:
        words.append("".join(word))
    return words


def _quoted(quote: str, rest: Iterator[str], word: list[str]) -> None:
    while (character := _next(rest)) != quote:
        if character == "\\" and quote == '"':
            character = _next(rest)
        word.append(character)


def _next(rest: Iterator[str]) -> str:
    character = next(rest, None)
    if character is None:
        raise UnfinishedError("EOF found when expecting closing quote or after escape character")
    return character
