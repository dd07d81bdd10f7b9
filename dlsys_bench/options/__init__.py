"""The commands and the options of the command line, of pytest, and of `[tool.dlsys_bench]`.

Each option is declared once, in `table`, and each command once, in `commands`; `settings` reads the
defaults that a project sets, and `reference` writes the reference page. Nothing here imports numpy
or a framework.
"""

from dlsys_bench.options.bench_table import OPTIONS
from dlsys_bench.options.command import Argument, Command
from dlsys_bench.options.commands import COMMANDS, commands, options_of
from dlsys_bench.options.option import PYTEST, Option

__all__ = [
    "COMMANDS",
    "OPTIONS",
    "PYTEST",
    "Argument",
    "Command",
    "Option",
    "commands",
    "options_of",
]
