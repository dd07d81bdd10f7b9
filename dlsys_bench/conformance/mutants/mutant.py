"""What a mutant is: an engine of the package with one piece of its source replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import dlsys_bench.engines
from dlsys_bench.errors import EngineError

ENGINES = Path(dlsys_bench.engines.__file__).parent

CLASSES = {"numpy": "NumpyEngine", "torch": "TorchEngine"}
"""The class of each engine that is mutated, by its package."""


class Edit(NamedTuple):
    """A piece of a file, which has to be there exactly once, and what takes its place."""

    file: str
    old: str
    new: str

    def apply(self, source: str) -> str:
        """The source with the edit. Errors: EngineError unless the old text is there exactly once."""
        if (found := source.count(self.old)) != 1:
            raise EngineError(f"{self.file} has {found} of what is to be replaced, not one: {self.old!r}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """A broken engine: `what` is wrong with it, the rung that has to find it first, and the edit that breaks it. One
    that no rung finds says why it `survives`."""

    name: str
    what: str
    rung: str | None
    file: str
    old: str
    new: str
    package: str = "numpy"
    survives: str | None = None

    @property
    def edit(self) -> Edit:
        return Edit(f"{self.file}.py", self.old, self.new)

    def source(self) -> str:
        """The whole file as the mutant has it."""
        return self.edit.apply((ENGINES / self.package / self.edit.file).read_text(encoding="utf-8"))
