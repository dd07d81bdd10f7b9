"""The commands of the command line, each in a module of its own: none is lost between the module
and the group."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click

import dlsys_bench.cli

README = Path(__file__).parents[1] / "README.md"


def under(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from under(command)


def test_every_command_that_a_module_defines_is_in_the_group() -> None:
    modules = [
        importlib.import_module(f"dlsys_bench.cli.{module.name}")
        for module in pkgutil.iter_modules(dlsys_bench.cli.__path__)
    ]
    defined = {
        (value.name, value.callback.__module__)
        for module in modules
        for value in vars(module).values()
        if isinstance(value, click.Command) and value.callback
    }
    assert len(modules) > 5
    assert defined == {
        (c.name, c.callback.__module__) for c in under(dlsys_bench.cli.cli) if c.callback
    }


def test_the_readme_lists_every_command() -> None:
    section = README.read_text(encoding="utf-8").split("## The command line")[1].split("\n## ")[0]
    assert set(re.findall(r"\| `dlsys-bench (\w+)", section)) == set(dlsys_bench.cli.cli.commands)


def test_every_command_says_what_it_does_and_what_each_option_takes() -> None:
    for command in under(dlsys_bench.cli.cli):
        assert command.help, command.name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help or option.type is not click.STRING, (
                    f"{command.name} {option.name}"
                )
