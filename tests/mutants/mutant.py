"""A mutant: an engine of the package with one piece of its source replaced."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import dlsys_bench.engines
from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import find_check
from dlsys_bench.errors import EngineError

assert checks  # importing them registers them


def rung_of(name: str) -> str:
    """Return the rung of a check."""
    check = find_check(name)
    assert check is not None, name
    return check.rung


ENGINES = Path(dlsys_bench.engines.__file__).parent

CLASSES = {"numpy": "NumpyEngine", "torch": "TorchEngine", "numba": "NumbaEngine"}
"""The class of each engine that is mutated, by its package."""

COMPILED = ("numba",)
"""The packages whose functions are compiled. A mutant has a copy of the edited file and of those
that import it alone, since every copy is compiled again."""


class Edit(NamedTuple):
    """A piece of a file, which has to be there exactly once, and its replacement.

    The piece is compared token by token, so that a change of line breaks or of indentation by the
    formatter does not invalidate the edit.
    """

    file: str
    old: str
    new: str

    def span(self, source: str) -> tuple[int, int]:
        """Return the offsets of the start and the end of the old text.

        Raises EngineError unless it occurs exactly once.
        """
        found = [match.span() for match in _pattern(self.old).finditer(source)]
        if len(found) != 1:
            raise EngineError(
                f"{self.file} contains the text to be replaced {len(found)} times instead of once: "
                f"{self.old!r}"
            )
        return found[0]

    def apply(self, source: str) -> str:
        """Return the source with the edit applied."""
        start, end = self.span(source)
        indent = len(self.old) - len(self.old.lstrip())
        new = self.new[indent:] if self.new[:indent].isspace() else self.new
        return source[:start] + new + source[end:]


def _pattern(code: str) -> re.Pattern[str]:
    """Compile a pattern that matches this code however it is broken into lines."""
    tokens = re.findall(r"\w+|[^\w\s]", code)
    closed = [(r",?\s*" if token in ")]}" else "") + re.escape(token) for token in tokens]
    return re.compile(r"(?<!\w)" * tokens[0][0].isalnum() + r"\s*".join(closed))


@dataclass(frozen=True)
class Mutant:
    """A broken engine.

    `what` describes the mistake, `check` names the check that detects it first on a full climb, and
    the edit (`file`, `old`, `new`) makes it. A mutant that no check detects has no `check`, and
    `survives` gives the reason. `only` is the dtype without which it is no mistake.
    """

    name: str
    what: str
    check: str | None
    file: str
    old: str
    new: str
    package: str = "numpy"
    survives: str | None = None
    only: str | None = None

    @property
    def rung(self) -> str | None:
        """The rung of the check that detects the mutant."""
        return None if self.check is None else rung_of(self.check)

    @property
    def edit(self) -> Edit:
        """The replacement in the file of the engine's package."""
        return Edit(f"{self.file}.py", self.old, self.new)

    def source(self) -> str:
        """The whole file as the mutant has it."""
        return self.edit.apply(
            (ENGINES / self.package / self.edit.file).read_text(encoding="utf-8")
        )
