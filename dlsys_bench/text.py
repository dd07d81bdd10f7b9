"""Foreign text, made safe to print and to store.

Messages of exceptions, the output of other processes, names that engines choose, and values of
files may hold anything. `printable` removes what a terminal would execute (control characters, ANSI
sequences) or a CI service would obey (workflow commands), and bounds the length.
"""

from __future__ import annotations

import re
import sys
import textwrap
import traceback
from pathlib import Path

LIMIT = 4000
"""The number of characters that are kept of one foreign text."""

COMMAND = re.compile(r"(?<!\S)(?=::)|(?<=#)(?=#[\w.]*\[)")
"""The places at which a backslash prevents a command: before the `::` that begins a line, or a
word, which a line may begin with after it is wrapped (GitHub Actions); and inside the `##[` or
`##vso[` that may stand anywhere (GitHub, Azure, TeamCity)."""

UNPRINTABLE = re.compile(r"[^ -~\n\t]")


def printable(text: object, limit: int = LIMIT) -> str:
    r"""Return a text in which every character is printable, a line feed or a tab.

    Other characters are escaped as in a Python literal (`\x1b`), and line ends become line feeds.
    At most `limit` characters are returned: the beginning and the end, and between them the number
    of those that are left out. A printable text is returned unchanged.
    """
    whole = text if isinstance(text, str) else str(text)
    left_out = max(0, len(whole) - 4 * limit)
    if left_out:
        # Nothing beyond these is shown, and escaping all of a long text would be slow.
        whole = whole[: 2 * limit] + whole[-2 * limit :]
    whole = UNPRINTABLE.sub(_escape, whole.replace("\r\n", "\n"))
    whole = COMMAND.sub(r"\\", whole)
    if len(whole) <= limit:
        return whole
    # No space at the end: a tail that begins with "::" would begin a word there.
    note = " ... {:,} characters left out ..."
    room = limit - len(note.format(left_out + len(whole)))
    if room <= 0:
        return whole[:limit]
    tail = room // 4
    left_out += len(whole) - room
    return whole[: room - tail] + note.format(left_out) + whole[len(whole) - tail :]


def one_line(text: object, limit: int = LIMIT) -> str:
    """Return a printable text in which line feeds and tabs are spaces."""
    return printable(text, limit).replace("\n", " ").replace("\t", " ")


def fold(text: str, width: int) -> str:
    """Return a sentence in lines of at most `width` columns, where words and names allow it."""
    lines = textwrap.wrap(
        text,
        width,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def describe(error: BaseException, limit: int = LIMIT) -> str:
    """Return the type and the message of an exception, even if its `__str__` raises another."""
    name = type(error).__name__
    try:
        # An f-string, because it turns an instance of a subclass of str into a str.
        text = f"{name}: {error}".removesuffix(": ")
    except BaseException as second:
        text = f"{name} (and its __str__ raised {type(second).__name__})"
    return printable(text, limit)


def place_of(frame: traceback.FrameSummary) -> str:
    """Return the file and the line of a frame.

    The file is named from the entry of sys.path that it is below, as in an import, so that reports
    do not depend on where packages are installed.
    """
    file = Path(frame.filename)
    roots = [root for root in map(Path, sys.path) if root in file.parents]
    nearest = max(roots, key=lambda root: len(root.parts), default=None)
    return f"{file if nearest is None else file.relative_to(nearest).as_posix()}:{frame.lineno}"


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    return character if character.isprintable() else ascii(character)[1:-1]
