"""The command line. Exit codes: 0 all passed, 1 a band failed, 2 usage or environment, 3
inconclusive."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import click

from dlsys_bench.cli.bench import bench_group
from dlsys_bench.cli.calibrate import calibrate_command
from dlsys_bench.cli.compare import compare_command
from dlsys_bench.cli.conform import conform_command
from dlsys_bench.cli.data import data_group
from dlsys_bench.cli.gate import gate_command, power_command
from dlsys_bench.cli.inspect import inspect_command
from dlsys_bench.cli.listing import list_command, summary_command
from dlsys_bench.cli.look import look_command
from dlsys_bench.cli.report import report_command
from dlsys_bench.cli.run import run_command
from dlsys_bench.cli.runs import runs_group
from dlsys_bench.cli.terminal import say
from dlsys_bench.entry_points import declared
from dlsys_bench.errors import UserError

INTERRUPTED = 130
GROUP = "dlsys_bench.commands"

# Every module that these come from imports what it needs inside its functions: help and mistakes
# answer at once.
COMMANDS = (
    list_command,
    summary_command,
    data_group,
    look_command,
    run_command,
    calibrate_command,
    inspect_command,
    gate_command,
    power_command,
    report_command,
    runs_group,
    compare_command,
    conform_command,
    bench_group,
)


class Commands(click.Group):
    """The commands above, and those that the entry points of `dlsys_bench.commands` refer to."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *declared(GROUP, self.commands)])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in self.commands:
            return self.commands[name]
        point = declared(GROUP, self.commands).get(name)
        command: Any = point.load() if point else None
        return command if isinstance(command, click.Command) else None


def warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line."""
    say(f"dlsys-bench: warning: {message}")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dlsys-bench", prog_name="dlsys-bench")
def cli() -> None:
    """Does a deep-learning stack train right, reach its accuracy, and how fast?"""


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line; what a person can mend is one line on stderr and exit code 2."""
    # package.module:attribute names what lies in the folder that a person works in, as `python -m`
    # would find it.
    sys.path.insert(0, "")
    warnings.showwarning = warn
    try:
        cli.main(standalone_mode=False)
    except UserError as error:
        say(f"dlsys-bench: {error}")
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        say("dlsys-bench: interrupted; every run that had finished is kept")
        sys.exit(INTERRUPTED)
