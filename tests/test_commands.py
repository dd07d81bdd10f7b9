"""The tables of commands and of options: each row has a function, a record, and a help text."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from command_line import invoke

import dlsys_bench.cli
from dlsys_bench.cli.group import implementation
from dlsys_bench.options import OPTIONS, PYTEST, Command, Option, commands, options_of

COMMAND_LINE = Path(__file__).parents[1] / "docs" / "command-line.md"


def under(group: click.Group, *parents: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield " ".join((*parents, name)), command
        if isinstance(command, click.Group):
            yield from under(command, *parents, name)


BY_NAME = dict(under(dlsys_bench.cli.cli))


@pytest.mark.parametrize("command", commands().values(), ids=lambda command: command.name)
def test_the_record_of_a_command_holds_its_arguments_and_options(command: Command) -> None:
    function = implementation(command)
    parameters = {one.name for one in BY_NAME[command.name].params if one.expose_value}
    record = function.record  # type: ignore[attr-defined]
    assert {field.name for field in fields(record)} == parameters


def test_every_option_belongs_to_commands_and_a_command_has_it_once() -> None:
    assert {name for option in OPTIONS for name in option.commands} <= {*BY_NAME, PYTEST}
    for command in (*BY_NAME, PYTEST):
        names = [option.name for option in options_of(command)]
        assert len(names) == len(set(names)), command


def accepts_its_default(option: Option) -> bool:
    """Return whether an option reads its default as what it is."""
    default = option.default
    given = str(default) if isinstance(default, Path) else default
    return default is None or option.kind.read(given) == default


def test_the_default_of_an_option_is_a_value_that_it_accepts() -> None:
    assert [option.name for option in OPTIONS if not option.help.endswith(".")] == []
    assert [option.name for option in OPTIONS if not accepts_its_default(option)] == []


def test_the_documentation_lists_every_command() -> None:
    page = COMMAND_LINE.read_text(encoding="utf-8")
    names = {name.split()[0] for name in BY_NAME}
    assert set(re.findall(r"^\| `dlsys-bench (\w+)", page, re.MULTILINE)) == names


@pytest.mark.parametrize("name", BY_NAME)
def test_the_help_of_a_command_states_its_purpose_and_its_options(name: str) -> None:
    shown = invoke(*name.split(), "--help").stdout
    purpose = inspect.cleandoc(BY_NAME[name].help or "").split()[:3]
    assert " ".join(purpose) in shown
    for option in options_of(name):
        assert f"--{option.name}" in shown
