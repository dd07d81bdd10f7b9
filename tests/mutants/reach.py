"""The checks that reach the edit of a mutant, and so could detect it.

A healthy twin goes through the ladder once. Before each statement that a mutant replaces it has a
probe, so that each check is known to run it or not. A check that does not would run as it does with
the healthy engine, and a climb can leave it out. An edit outside of functions is reached by all.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping, Set
from typing import NamedTuple

from dlsys_bench.conformance.check import RUNGS, in_dtypes
from dlsys_bench.conformance.runner import LocalRunner, engine_factory
from dlsys_bench.conformance.trial import EngineTarget, Options
from dlsys_bench.engines.base import Engine
from mutants.loader import ALIAS, Copy, load
from mutants.mutant import CLASSES, COMPILED, ENGINES
from mutants.table import MUTANTS

REACHED: set[str] = set()
"""The mutants whose statements have run since it was last empty."""

PROBED = "probed_"
"""What the name of an engine with probes begins with: `mutants.reach:probed_numpy`."""

Reach = Mapping[str, Set[str]]
"""The names of the checks that reach each mutant. A mutant that is missing is reached by all."""


class Place(NamedTuple):
    """A statement in a block."""

    block: list[ast.stmt]
    statement: ast.stmt


def _blocks(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the blocks within a statement."""
    for field in ("body", "orelse", "finalbody"):
        if block := getattr(statement, field, None):
            yield block
    for part in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]:
        yield part.body


def find_place(
    block: list[ast.stmt], first: int, last: int, *, in_function: bool = False
) -> Place | None:
    """Return the innermost statement of a function that has these lines, or the first of several
    that have them; None if they are outside of functions."""
    for statement in block:
        end = statement.end_lineno or statement.lineno
        if end < first:
            continue
        if statement.lineno <= first and last <= end:
            inside = isinstance(statement, ast.FunctionDef) or (
                in_function and not isinstance(statement, ast.ClassDef)
            )
            for inner in _blocks(statement):
                if inner[0].lineno <= first and last <= (inner[-1].end_lineno or last):
                    return find_place(inner, first, last, in_function=inside)
        return Place(block, statement) if in_function else None
    return None


def _edit_places(package: str, file: str, source: str) -> tuple[ast.Module, dict[str, Place]]:
    """Return the syntax tree of a file, and the place of each mutant that has one in it."""
    tree = ast.parse(source)
    places = {}
    for mutant in MUTANTS.values():
        if (mutant.package, mutant.edit.file) == (package, file):
            start, end = (source.count("\n", 0, at) + 1 for at in mutant.edit.span(source))
            if place := find_place(tree.body, start, end):
                places[mutant.name] = place
    return tree, places


def add_probes(package: str, file: str, source: str) -> str:
    """Return the source of a file with a probe before each statement that a mutant replaces."""
    tree, places = _edit_places(package, file, source)
    for name, (block, statement) in places.items():
        (probe,) = ast.parse(f"_reached.add({name!r})").body
        block.insert(next(i for i, each in enumerate(block) if each is statement), probe)
    if places:
        (importing,) = ast.parse(f"from {__name__} import REACHED as _reached").body
        # Imports from __future__ and the docstring come first.
        tree.body.insert(2, importing)
    return ast.unparse(ast.fix_missing_locations(tree))


def __getattr__(name: str) -> type[Engine]:
    package = name.removeprefix(PROBED)
    if name == package or package not in CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    files = {each.edit.file for each in MUTANTS.values() if each.package == package}
    shared = tuple(sorted(file[3:-3] for file in files if file.startswith("../")))
    return load(name, Copy(package, lambda file, source: add_probes(package, file, source), shared))


def _forget(alias: str) -> None:
    """Empty the caches of a copy, so that a check runs again what an earlier one ran."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{ALIAS}.{alias}."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def find_reach(package: str, options: Options, names: Collection[str] | None = None) -> Reach:
    """Put the healthy twin of a package through the ladder, or through the checks of these names,
    and return which reach each mutant.

    The statistical rung reaches everything and does not run. Each check has an engine of its own,
    since what an engine does when it is created belongs to all. Compiled functions take no probes.
    """
    if package in COMPILED:
        return {}
    target = f"{__name__}:{PROBED}{package}"
    found: dict[str, set[str]] = {name: set() for name in _placed(package)}
    dtypes = LocalRunner(engine_factory(target, "cpu"), options).dtypes()
    checks = in_dtypes(dtypes)
    for check in checks.values() if names is None else map(checks.__getitem__, names):
        REACHED.clear()
        _forget(f"{PROBED}{package}")
        if check.rung == RUNGS[-1]:
            REACHED.update(found)
        else:
            factory = engine_factory(target, "cpu")
            LocalRunner(factory, options, EngineTarget(target)).run(check.name)
        for name in REACHED & found.keys():
            found[name].add(check.name)
    return found


def _placed(package: str) -> Iterator[str]:
    """Yield the mutants of a package whose edit is in a function."""
    for file in sorted({each.edit.file for each in MUTANTS.values() if each.package == package}):
        source = (ENGINES / package / file).read_text(encoding="utf-8")
        yield from _edit_places(package, file, source)[1]
