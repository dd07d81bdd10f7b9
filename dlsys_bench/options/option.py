"""The record of one option."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlsys_bench.options.kinds import Kind, Many

PYTEST = "pytest"
"""The name that stands for pytest among the commands that take an option."""


@dataclass(frozen=True)
class Option:
    """An option of the commands named, which all read it alike.

    `environment` is the variable that is read where the command line does not have the option. The
    default of a `project` option may be set for all commands at once, at the top level of
    [tool.dlsys_bench]; that of any other, in the table of a command.
    """

    name: str
    commands: tuple[str, ...]
    help: str
    kind: Kind
    default: Any = None
    environment: str | None = None
    project: bool = False

    @property
    def field(self) -> str:
        """The attribute of a command's record that holds the value."""
        return self.kind.field if isinstance(self.kind, Many) else self.name.replace("-", "_")
