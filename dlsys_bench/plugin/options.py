"""The options of pytest: `--dlsys-NAME` for each option of the table that pytest has."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.engines.registry import check_name
from dlsys_bench.errors import UserError
from dlsys_bench.options.commands import options_of
from dlsys_bench.options.kinds import Choice, Flag, Kind, Many, Text
from dlsys_bench.options.option import PYTEST, Option
from dlsys_bench.options.settings import pytest_defaults
from dlsys_bench.plugin import hookspec, no_benchmark
from dlsys_bench.text import printable

MARKERS = (
    "dlsys_study(name): the study, group, or arm whose cases `dlsys_case` iterates over",
    "gate: trains and judges; on every test that takes `dlsys_gate` or `accuracy_gate` (-m gate)",
)

STDERR = pytest.StashKey[int]()
"""A descriptor of stderr that pytest does not capture."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options. Their defaults are set later, when the project's folder is known."""
    group = parser.getgroup("dlsys", "dlsys_bench: tests of deep-learning training")
    for option in options_of(PYTEST):
        many = isinstance(option.kind, Many)
        inner = option.kind.kind if isinstance(option.kind, Many) else option.kind
        extra: dict[str, Any] = {"action": "append"} if many else {}
        if isinstance(inner, Flag):
            extra |= {"action": "store_true", "default": None}
        elif isinstance(inner, Choice):
            extra["choices"] = inner.names
        else:
            extra["type"] = reader(inner)
            extra["metavar"] = inner.metavar if isinstance(inner, Text) else "N"
        group.addoption(f"--dlsys-{option.name}", dest=dest(option), help=help_of(option), **extra)


def dest(option: Option) -> str:
    """The name of an option in the configuration, as `config.getoption` takes it."""
    return f"dlsys_{option.name.replace('-', '_')}"


def help_of(option: Option) -> str:
    """The help text with the default."""
    default = "" if option.default in (None, ()) else f" Default: {option.default}."
    return (option.help + default).replace("%", "%%")


def reader(kind: Kind) -> Callable[[str], Any]:
    """The conversion of an option's text, with an error that says what is accepted."""

    def read(text: str) -> Any:
        try:
            return kind.read(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is not {kind.takes}") from None

    return read


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set the defaults, register the markers, and raise a UsageError for every mistake."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)
    try:
        set_defaults(config, pytest_defaults(config.rootpath))
        for name in config.getoption("dlsys_engine"):
            if name != "all":
                check_name(name)
    except UserError as error:
        raise pytest.UsageError(printable(error)) from None
    with suppress(OSError):  # It may be closed.
        config.stash[STDERR] = os.dup(2)
    path = config.getoption("dlsys_json")
    if path and not hasattr(config, "workerinput"):
        _empty(Path(path))
    if config.getoption("dlsys_evidence"):
        # It imports numpy, without which pytest starts.
        config.pluginmanager.import_plugin("dlsys_bench.plugin.evidence")
    # pytest-benchmark is one of several plugins that offer this fixture.
    if not any(hasattr(plugin, "benchmark") for plugin in config.pluginmanager.get_plugins()):
        config.pluginmanager.register(no_benchmark)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the descriptor."""
    if STDERR in config.stash:
        os.close(config.stash[STDERR])
        del config.stash[STDERR]


def set_defaults(config: pytest.Config, project: Mapping[str, Any]) -> None:
    """Give each absent option the value of its variable, else of the project, else of the table."""
    for option in options_of(PYTEST):
        if config.getoption(dest(option)) is None:
            value = os.environ.get(option.environment or "") or project.get(option.field)
            setattr(config.option, dest(option), option.default if value is None else value)


def _empty(path: Path) -> None:
    """Write an empty list: a path that cannot be written is a mistake that is reported at once, and
    the verdicts of an earlier session are not mistaken for those of this one."""
    try:
        path.write_text("[]", encoding="utf-8")
    except OSError as error:
        raise pytest.UsageError(f"--dlsys-json: cannot write {path}: {error.strerror}") from None
