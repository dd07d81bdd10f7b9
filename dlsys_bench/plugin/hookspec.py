"""The hooks of the plugin, which a conftest.py or another plugin may implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dlsys_bench.studies.base import Study
    from dlsys_bench.verdicts.verdict import Verdict


@pytest.hookspec
def pytest_dlsys_engines(config: pytest.Config, engines: list[str]) -> None:
    """Add, remove, or reorder the engines under test, in place.

    `engines` holds their names: those of `--dlsys-engine`, or all that are installed. An engine
    that is not registered is named "package.module:Class". Called once per test function that takes
    `dlsys_case`.
    """


@pytest.hookspec
def pytest_dlsys_studies(config: pytest.Config, studies: dict[str, Study]) -> None:
    """Add or remove studies by name, in place, before a `dlsys_study` marker is looked up.

    `studies` holds the registered ones. Called once per test function that takes `dlsys_case`. The
    replay line of a study that is added here works where it is registered as an entry point.
    """


@pytest.hookspec
def pytest_dlsys_verdict(config: pytest.Config, verdict: Verdict) -> None:
    """Receive a verdict as soon as it is known, whatever its outcome.

    With pytest-xdist, it is called in the worker that trained.
    """
