"""The record of one command, and the decorator of the function behind it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from dlsys_bench.options.kinds import Kind
from dlsys_bench.options.option import Option

R = TypeVar("R")

EXIT_CODES = "Exit codes"
DONE = "0 done, 2 usage or environment."
"""The exit codes of a command that reaches no verdict."""


@dataclass(frozen=True)
class Argument:
    """A positional argument. Without a default it is required, unless `optional` or `many`.

    `many` takes any number of values; with `required` at least one.
    """

    name: str
    kind: Kind
    default: str | None = None
    optional: bool = False
    many: bool = False
    required: bool = False
    metavar: str | None = None


@dataclass(frozen=True)
class Command:
    """A command: its name, the function "package.module:function" behind it, and its help.

    The name of a command in a group has the group's name before it. `options` are those of a
    command that an installed package adds, which are not in the table of options.
    """

    name: str
    target: str
    arguments: tuple[Argument, ...]
    help: str
    options: tuple[Option, ...] = ()

    @property
    def description(self) -> str:
        """The help, which ends in the exit codes."""
        text = inspect.cleandoc(self.help)
        return text if EXIT_CODES in text else f"{text}\n\n{EXIT_CODES}: {DONE}"


def receives(record: type[R]) -> Callable[[Callable[[R], None]], Callable[..., None]]:
    """Decorate a command so that it receives the parsed arguments and options as one record.

    The record is a dataclass with a field for each of them.
    """

    def decorate(command: Callable[[R], None]) -> Callable[..., None]:
        def call(**parameters: Any) -> None:
            command(record(**parameters))

        call.record = record  # type: ignore[attr-defined]
        return call

    return decorate
