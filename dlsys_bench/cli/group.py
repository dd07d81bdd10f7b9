"""The click commands, built from the tables of commands and of options."""

from __future__ import annotations

import importlib
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import isnan
from pathlib import Path
from typing import Any

import click

from dlsys_bench.cli.completion import completer
from dlsys_bench.cli.terminal import complain, stdout_reserved
from dlsys_bench.errors import UserError
from dlsys_bench.options.command import Argument, Command
from dlsys_bench.options.commands import BUILT_IN, GROUPS, commands, options_of
from dlsys_bench.options.kinds import (
    Choice,
    File,
    Flag,
    Folder,
    Integer,
    Kind,
    Many,
    Number,
    PerMetric,
    Text,
)
from dlsys_bench.options.option import Option
from dlsys_bench.options.settings import project_defaults
from dlsys_bench.silence import silenced

KEPT = {
    **dict.fromkeys(
        ("run", "gate", "bench sweep", "bench time-to-accuracy"),
        "every run that had finished is kept",
    ),
    "calibrate": "every run that had finished is kept, and --resume uses it",
    "conform": "nothing is kept",
}
"""What an interrupted command leaves behind."""


INTERRUPTED = 130
INTERNAL_ERROR = 70
EXIT_CODES = (
    "Exit codes: 0 pass, 1 fail, 2 usage or environment, 3 inconclusive, "
    f"{INTERNAL_ERROR} internal error, {INTERRUPTED} interrupted."
)
"""The end of the help of groups; a command states what its own codes mean."""

VERBOSE = "dlsys_bench.verbose"
"""The key of a context's data that is true if --verbose is given."""


class MistakeError(click.ClickException):
    """An error that the user can correct: one line on stderr and exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the line."""
        complain(f"dlsys-bench: {self.message}")


class CommandGroup(click.Group):
    """A group whose help has the whole first sentence of each command."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands; click would cut their help off."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            text = (command.help if command else None) or ""
            rows.append((name, " ".join(text.split("\n\n")[0].split())))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class RootGroup(CommandGroup):
    """The command line: commands fail with one line, and read the defaults of the project."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, those of installed packages among them."""
        self._add_commands()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; its module is not imported before it runs."""
        self._add_commands()
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises MistakeError for a UserError."""
        try:
            ctx.default_map = nested(project_defaults(Path.cwd()))
            return super().invoke(ctx)
        except UserError as error:
            if ctx.meta.get(VERBOSE):
                complain(traceback.format_exc())
            raise MistakeError(str(error)) from error

    def _add_commands(self) -> None:
        if self.commands:
            return
        groups: dict[str, click.Group] = {"": self}
        for command in commands().values():
            parent = " ".join(command.name.split()[:-1])
            if parent not in groups:
                groups[parent] = CommandGroup(parent, help=GROUPS[parent], epilog=EXIT_CODES)
                self.add_command(groups[parent])
            groups[parent].add_command(click_command(command))


def nested(defaults: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Defaults by the names of commands, as click nests them: those of "bench sweep" in "bench"."""
    root: dict[str, Any] = {}
    for command, values in defaults.items():
        table = root
        for part in command.split():
            table = table.setdefault(part, {})
        table.update(values)
    return root


def implementation(command: Command) -> Callable[..., None]:
    """Import the function behind a command."""
    module, _, name = command.target.partition(":")
    function: Callable[..., None] = getattr(importlib.import_module(module), name)
    return function


def click_type(kind: Kind) -> click.ParamType[Any]:
    """The click type that reads the same values as a kind."""
    match kind:
        case Integer():
            return click.IntRange(min=kind.minimum)
        case Number():
            low, high = kind.minimum if kind.above is None else kind.above, kind.below
            return _NumberRange(low, high, kind.above is not None, high is not None)
        case Choice():
            return click.Choice(kind.names)
        case File():
            return click.Path(exists=kind.exists, dir_okay=kind.folder, path_type=Path)
        case Folder():
            return click.Path(file_okay=False, path_type=Path)
        case PerMetric():
            return _Checked(kind)
        case _:
            return click.STRING


class _NumberRange(click.FloatRange):
    """A range that NaN is not in, where click compares it with both ends and finds it inside."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number. Fails if it is not in the range."""
        number = float(super().convert(value, param, ctx))
        if isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


class _Checked(click.ParamType[str]):
    """A text that a kind checks."""

    name = "text"

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text. Fails if it is not accepted."""
        try:
            return str(self.kind.read(value))
        except ValueError:
            self.fail(f"{value!r} is not {self.kind.takes}", param, ctx)


def click_option(option: Option) -> click.Option:
    """The click option for a row of the table."""
    kind, many = option.kind, isinstance(option.kind, Many)
    if isinstance(kind, Flag):
        name = f"--{option.name}" + f"/--no-{option.name}" * kind.negative
        return click.Option(
            [name, option.field],
            is_flag=True,
            default=option.default,
            show_default=kind.negative,
            help=option.help,
        )
    inner = kind.kind if isinstance(kind, Many) else kind
    return click.Option(
        [f"--{option.name}", option.field],
        type=click_type(inner),
        multiple=many,
        default=option.default,
        show_default=option.default not in (None, ()),
        envvar=option.environment,
        show_envvar=option.environment is not None,
        metavar=inner.metavar if isinstance(inner, Text) else None,
        help=option.help,
        shell_complete=completer(option.name),
    )


def click_argument(argument: Argument) -> click.Argument:
    """The click argument for a row of a command."""
    free = argument.many or argument.optional or argument.default is not None
    return click.Argument(
        [argument.name],
        type=click_type(argument.kind),
        nargs=-1 if argument.many else 1,
        required=argument.required or not free,
        default=argument.default,
        metavar=f"[{argument.metavar}]" if free and argument.metavar else argument.metavar,
        shell_complete=completer(argument.name),
    )


def click_command(command: Command) -> click.Command:
    """The click command for a row of the table; its module is imported when it is invoked."""
    # A command of another package may print its JSON without `emit`.
    programs_read = command.name in BUILT_IN

    def call(**parameters: Any) -> None:
        reserved = programs_read and parameters.get("json")
        try:
            with stdout_reserved() if reserved else nullcontext():
                implementation(command)(**parameters)
        except KeyboardInterrupt as error:
            if command.name in KEPT:
                error.add_note(KEPT[command.name])
            raise

    return click.Command(
        command.name.split()[-1],
        params=[
            *map(click_argument, command.arguments),
            *map(click_option, options_of(command.name)),
            *_verbosity(),
        ],
        help=command.description,
        callback=call,
    )


def _verbosity() -> list[click.Option]:
    """The options of every command that state how much is printed."""

    def quiet(ctx: click.Context, parameter: click.Parameter, given: bool) -> None:
        if given:
            ctx.with_resource(silenced())

    def verbose(ctx: click.Context, parameter: click.Parameter, given: bool) -> None:
        if given:
            ctx.meta[VERBOSE] = True
            ctx.with_resource(_log_printed())

    texts = {
        "quiet": (quiet, "Print results, warnings and errors alone: no remarks, no progress."),
        "verbose": (verbose, "Print the log too, and the traceback of an error."),
    }
    return [
        click.Option(
            [f"-{name[0]}", f"--{name}"],
            is_flag=True,
            expose_value=False,
            callback=callback,
            help=text,
        )
        for name, (callback, text) in texts.items()
    ]


@contextmanager
def _log_printed() -> Iterator[None]:
    """Print the log of the package on stderr in this context."""
    logger, handler = logging.getLogger("dlsys_bench"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
