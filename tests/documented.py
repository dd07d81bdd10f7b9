"""The blocks of code of the documentation, and the comparison of output with what a page shows."""

from __future__ import annotations

import re
from typing import NamedTuple

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?)^ *```$", re.M | re.S)


class Fence(NamedTuple):
    """A block of code of a page, without its indentation."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is, which its first line names."""
        found = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return found[1] if found else None

    def commands(self) -> list[tuple[str, str]]:
        """Each command of a console with the output that is shown below it."""
        found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", self.text, re.M)
        return [(command, output) for command, output in found]


def fences(text: str) -> list[Fence]:
    """Return the blocks of code of a page, in order."""
    return [
        Fence(match["language"], re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M))
        for match in FENCE.finditer(text)
    ]


def plain(text: str) -> str:
    """A text without the borders of tables, and with one space for any number of spaces."""
    return " ".join(re.sub(r"[┃│━┏┓┡┩└┘─┳╇┴┻╋┼╰╯╭╮]", " ", text).split())


def missing_line(shown: str, printed: str) -> str | None:
    """Return the first line that is shown and not printed behind those before it, None if all are.

    What a command writes to stderr is behind its stdout, so each stream is searched from its start.
    """
    rest = plain(printed)
    for line in filter(None, map(plain, shown.splitlines())):
        pattern = ".*?".join(map(re.escape, line.split("...")))
        found = re.search(pattern, rest)
        if found is None:
            return line
        rest = rest[found.end() :]
    return None
