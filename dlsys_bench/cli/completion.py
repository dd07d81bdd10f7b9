"""What a shell completes: the names that an option or an argument takes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from dlsys_bench.errors import MissingExtraError

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _studies() -> Iterable[str]:
    registry = importlib.import_module("dlsys_bench.studies.registry")
    for study in registry.studies().values():
        yield from filter(None, (study.group, study.name))
        yield from (f"{study.name}/{arm.name}" for arm in study.arms)
    yield "all"


def _keys(target: str) -> Callable[[], Iterable[str]]:
    """Return the function that returns the keys of the mapping that a function returns."""
    module, _, name = target.partition(":")
    return lambda: list(getattr(importlib.import_module(module), name)())


def _checks() -> Iterable[str]:
    importlib.import_module("dlsys_bench.conformance.ladder")
    checks = importlib.import_module("dlsys_bench.conformance.check")
    return [*checks.RUNGS, *checks.CHECKS]


ENGINES = _keys("dlsys_bench.engines.registry:available")
DATASETS = _keys("dlsys_bench.data:datasets")

NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "study": _studies,
    "target": _studies,
    "engine": ENGINES,
    "dataset": DATASETS,
    "names": DATASETS,
    "model": _keys("dlsys_bench.studies.registry:models"),
    "check": _checks,
    "explain": _checks,
}
"""The functions that return the names, by the name of an option or an argument."""


def completer(name: str) -> Completer | None:
    """Return the function that completes an option or an argument; None for the type's own."""
    if name not in NAMES:
        return None

    def complete(
        ctx: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: Iterable[str] = ()
        with suppress(MissingExtraError):
            found = dict.fromkeys(NAMES[name]())
        return [CompletionItem(one) for one in found if one.startswith(incomplete)]

    return complete
