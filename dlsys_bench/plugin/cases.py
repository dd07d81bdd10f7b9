"""The cases of a test: each arm of its studies on each engine under test."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from dlsys_bench.engines.registry import available, engines, one_of_each
from dlsys_bench.errors import UserError
from dlsys_bench.text import printable

if TYPE_CHECKING:
    from dlsys_bench.studies.base import Case


class EngineCase(NamedTuple):
    """One arm of one study on one engine."""

    case: Case
    engine: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.case.name}"


def engines_under_test(config: pytest.Config) -> list[str]:
    """The names of the engines: those of `--dlsys-engine`, or all that are installed."""
    names = list(config.getoption("dlsys_engine")) or ["all"]
    if "all" in names:
        device = config.getoption("dlsys_device")
        names = one_of_each(name for name in available() if device in engines()[name].devices)
    config.hook.pytest_dlsys_engines(config=config, engines=names)
    return names


def cases_of(config: pytest.Config, names: tuple[str, ...]) -> list[Case]:
    """The cases of studies, groups, or arms by name. Raises UserError for an unknown one."""
    from dlsys_bench.studies.registry import find, studies

    known = dict(studies())
    config.hook.pytest_dlsys_studies(config=config, studies=known)
    return [case for name in names for case in find(name, known)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test that takes `dlsys_case`."""
    if "dlsys_case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("dlsys_study")
    try:
        cases = cases_of(metafunc.config, marker.args if marker else ("all",))
    except UserError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {printable(error)}") from None
    names = engines_under_test(metafunc.config)
    pairs = [EngineCase(case, name) for name in names for case in cases]
    metafunc.parametrize("dlsys_case", pairs, ids=str)
