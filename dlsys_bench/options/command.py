"""The record of one command."""

from __future__ import annotations

from dataclasses import dataclass

from dlsys_bench.options.kinds import Kind
from dlsys_bench.options.option import Option


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
