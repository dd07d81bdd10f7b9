"""Defaults that a project sets for its options: the table [tool.dlsys_bench] of pyproject.toml.

A key at the top level is the default of that option of every command and of pytest. A table of the
name of a command, such as [tool.dlsys_bench.calibrate] or [tool.dlsys_bench.bench.sweep], holds
defaults of that command alone, which come first.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from dlsys_bench.entry_points import declared_names
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.options.bench_table import OPTIONS
from dlsys_bench.options.commands import BUILT_IN, GROUP, commands, options_of
from dlsys_bench.options.kinds import File, Folder, FolderName, Many
from dlsys_bench.options.option import PYTEST, Option

FILE = "pyproject.toml"
TABLE = "tool.dlsys_bench"
PROJECT = {option.name for option in OPTIONS if option.project}


def find_settings(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """The nearest pyproject.toml in `folder` or above it, and its [tool.dlsys_bench].

    Raises UserError if the file is not valid TOML.
    """
    path = next((up / FILE for up in (folder, *folder.parents) if (up / FILE).is_file()), None)
    if path is None:
        return None
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for part in TABLE.split("."):
        table = table.get(part, {})
        if not isinstance(table, dict):
            raise UserError(f"{path}: {part} is {table!r}; expected a table, as in [{TABLE}]")
    return path, table


def pytest_defaults(folder: Path) -> dict[str, Any]:
    """The defaults that a project sets for the options of pytest, values by field.

    The commands that installed packages add are not loaded, and their tables not checked. Raises
    UserError as `project_defaults` does.
    """
    unchecked = declared_names(GROUP) - {*BUILT_IN}
    return _defaults(folder, (*BUILT_IN, PYTEST), unchecked).get(PYTEST, {})


def project_defaults(folder: Path) -> dict[str, dict[str, Any]]:
    """The defaults that a project sets: of each command by its name, values by field.

    Raises UserError for an unknown key and for a value that the option does not accept.
    """
    return _defaults(folder, (*commands(), PYTEST))


def _defaults(
    folder: Path, names: Collection[str], unchecked: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """The defaults of the commands of some names; the tables of `unchecked` names are ignored."""
    found = find_settings(folder)
    if found is None:
        return {}
    path, table = found
    _check_keys(table, path, names, unchecked)
    defaults: dict[str, dict[str, Any]] = {}
    for command in names:
        own = _table_of(table, command)
        options = options_of(command)
        values = {}
        for option in options:
            if option.name in own:
                values[option.field] = _read(option, own[option.name], path, command)
            elif option.project and option.name in table:
                values[option.field] = _read(option, table[option.name], path, "")
        if values:
            defaults[command] = values
    return defaults


def _table_of(table: Mapping[str, Any], command: str) -> Mapping[str, Any]:
    """The table of a command: of "bench sweep" it lies in that of "bench"."""
    for part in command.split():
        inner = table.get(part, {})
        table = inner if isinstance(inner, dict) else {}
    return table


def _read(option: Option, value: Any, path: Path, command: str) -> Any:
    # An engine set for the whole project may be several; a command that takes one takes the first.
    if isinstance(value, list) and value and not command and not isinstance(option.kind, Many):
        value = value[0]
    where = f"{path}: [{'.'.join((TABLE, *command.split()))}] {option.name}"
    if value == []:
        raise UserError(f"{where} is an empty list; expected at least one value, or no such key")
    # A path is relative to the folder of the file that sets it.
    if isinstance(option.kind, File | Folder | FolderName) and isinstance(value, str):
        value = str(path.parent / value)
    try:
        return option.kind.read(value)
    except (TypeError, ValueError):
        raise UserError(f"{where} is {value!r}; expected {option.kind.takes}") from None


def _check_keys(
    table: Mapping[str, Any],
    path: Path,
    names: Collection[str],
    unchecked: Collection[str],
    parents: tuple[str, ...] = (),
) -> None:
    """Raise a UserError for a key that is neither an option nor the name of a command."""
    depth = len(parents)
    below = [command.split() for command in names]
    inner = {parts[depth] for parts in below if tuple(parts[:depth]) == parents and parts[depth:]}
    known = PROJECT if not parents else {o.name for o in options_of(" ".join(parents))}
    where = ".".join((TABLE, *parents))
    for key, value in table.items():
        if " ".join((*parents, key)) in unchecked:
            continue
        if isinstance(value, dict) and key in inner:
            _check_keys(value, path, names, unchecked, (*parents, key))
        elif key in inner and key not in known:
            raise UserError(
                f"{path}: [{where}] {key} is {value!r}; expected a table, as in [{where}.{key}]"
            )
        elif isinstance(value, dict) and key in known:
            raise UserError(f"{path}: [{where}] {key} is a table; expected a value")
        elif key not in known:
            choices = sorted(known | inner)
            raise UserError(
                f"{path}: [{where}] has an unknown key {key!r}{nearest(key, choices)}; "
                f"expected one of {', '.join(choices)}"
            )
