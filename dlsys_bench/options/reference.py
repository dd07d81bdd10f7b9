"""The reference page of the commands and options, generated from their tables.

`python -m dlsys_bench.options.reference > docs/reference/options.md` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from dlsys_bench.options.command import Argument, Command
from dlsys_bench.options.commands import commands, options_of
from dlsys_bench.options.kinds import Flag
from dlsys_bench.options.option import PYTEST, Option
from dlsys_bench.options.settings import PROJECT

PACKAGE = "dlsys_bench"
"""Commands that other packages add are left to their documentation."""
HEAD = """# Options

This page is generated from the tables in `dlsys_bench.options` by
`python -m dlsys_bench.options.reference`. An option of the command line comes first, then its
environment variable, then the project's `pyproject.toml`, then the default below.

Every command has `--help`, `--quiet` (print results, warnings and errors, and no remarks and no
progress) and `--verbose` (print the log of the package, and the traceback of an error). A command
also ends with 70 for an internal error and with 130 if it is interrupted. `NO_COLOR=1` prints no
colours. This line in `~/.bashrc` completes commands, options, studies, engines, datasets and checks
(for zsh and fish, replace both names of the shell):

```bash
eval "$(_DLSYS_BENCH_COMPLETE=bash_source dlsys-bench)"
```
"""
SETTINGS = """## Defaults of a project

The table `[tool.dlsys_bench]` of the nearest `pyproject.toml` sets defaults. A key at its top level
is the default of every command that has the option, and of pytest:
{names}.
A command that takes one value uses the first of a list. The table of a command sets defaults of
that command alone, of any of its options. Paths are relative to the folder of the file. An unknown
key, or a value that the option does not accept, is an error.

```toml
[tool.dlsys_bench]
engine = ["numpy", "torch"]
tier = "quick"

[tool.dlsys_bench.calibrate]
seeds = 30

[tool.dlsys_bench.bench.sweep]
batch-size = [32, 256]

[tool.dlsys_bench.pytest]
max-seeds = 8
```
"""


def reference_page() -> str:
    """The page as Markdown."""
    own = [one for one in commands().values() if one.target.split(".")[0] == PACKAGE]
    sections = [_command_section(command) for command in own]
    names = ", ".join(f"`{name}`" for name in sorted(PROJECT))
    return "\n".join([HEAD, *sections, _pytest_section(), SETTINGS.format(names=names)])


def _command_section(command: Command) -> str:
    usage = " ".join(["dlsys-bench", command.name, *map(_argument, command.arguments)])
    options = options_of(command.name)
    table = "\n" + "\n".join(_table(options, "--")) + "\n" if options else ""
    return f"## `{usage}`\n\n{command.description}\n{table}"


def _argument(argument: Argument) -> str:
    name = (argument.metavar or argument.name).upper() + "..." * argument.many
    free = argument.many or argument.optional or argument.default is not None
    return f"[{name}]" if free and not argument.required else name


def _pytest_section() -> str:
    table = "\n".join(_table(options_of(PYTEST), "--dlsys-"))
    return f"## `pytest`\n\nThe options of the pytest plugin.\n\n{table}\n"


def _table(options: Iterable[Option], prefix: str) -> Iterator[str]:
    yield "| option | takes | default | description |"
    yield "|---|---|---|---|"
    for option in options:
        names = f"`{prefix}{option.name}`"
        if isinstance(option.kind, Flag) and option.kind.negative:
            names += f", `{prefix}no-{option.name}`"
        takes = "" if isinstance(option.kind, Flag) else option.kind.takes
        variable = f" Environment: `{option.environment}`." if option.environment else ""
        yield f"| {names} | {takes} | {_default(option)} | {option.help}{variable} |"


def _default(option: Option) -> str:
    if isinstance(option.kind, Flag):
        return "yes" if option.default else ""
    if option.default in (None, ()):
        return ""
    values = option.default if isinstance(option.default, tuple) else (option.default,)
    return ", ".join(f"`{v.as_posix() if isinstance(v, Path) else v}`" for v in values)


if __name__ == "__main__":
    print(reference_page(), end="")
