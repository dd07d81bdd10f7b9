"""Import a mutant: the package of an engine under another name, with one edit of its source.

An import hook does this in memory. For the name `dlsys_bench_mutants.NAME.MODULE`, it reads the
source of `dlsys_bench.engines.PACKAGE.MODULE`, applies the edit of the mutant NAME if that is the
module, and makes the imports within the package point to the mutant.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.registry import unavailable
from dlsys_bench.errors import EngineError
from mutants.mutant import CLASSES, COMPILED, ENGINES, Edit

ALIAS = "dlsys_bench_mutants"
"""The package of all mutants, which exists in memory only."""


@dataclass(frozen=True)
class Copy:
    """A copy of the package of an engine.

    `edit` receives the name and the source of a file and returns the source of the copy. `shared`
    names the modules that all engines share of which the copy has its own. `own` names the modules
    of the package of which the copy has its own, if not of all.
    """

    package: str
    edit: Callable[[str, str], str] = lambda file, source: source
    shared: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    @classmethod
    def of(cls, package: str, edit: Edit | None) -> Copy:
        """Return the copy with one edit. That of "../FILE" is one of a shared module."""
        if edit is None:
            return cls(package, own=("engine",) if package in COMPILED else ())
        shared = (edit.file[3:-3],) if edit.file.startswith("../") else ()
        return cls(
            package,
            lambda file, source: edit.apply(source) if file == edit.file else source,
            shared,
            importers(package, edit.file[:-3]) if package in COMPILED else (),
        )


def importers(package: str, name: str) -> tuple[str, ...]:
    """Return a module of a package and those that import it, and so on."""
    found = [name]
    for one in found:
        for path in sorted((ENGINES / package).glob("[!_]*.py")):
            source = path.read_text(encoding="utf-8")
            if f"engines.{package}.{one} import" in source and path.stem not in found:
                found.append(path.stem)
    return tuple(found)


class Finder(MetaPathFinder):
    """Finds the modules of the copies, which it has by their names."""

    def __init__(self) -> None:
        self.copies: dict[str, Copy] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, rest = name.partition(".")
        if top != ALIAS:
            return None
        alias, _, module = rest.partition(".")
        if not alias:
            return ModuleSpec(name, None, is_package=True)
        if alias not in self.copies or "." in module:
            return None
        copy = self.copies[alias]
        file = f"{'../' * (module in copy.shared)}{module or '__init__'}.py"
        if not (ENGINES / copy.package / file).is_file():
            return None
        loader = Loader(copy, f"{ALIAS}.{alias}", file)
        return importlib.util.spec_from_loader(name, loader, is_package=not module)


class Loader(ExecutionLoader):
    """Loads one module of a copy."""

    def __init__(self, copy: Copy, alias: str, file: str) -> None:
        self.copy, self.alias, self.file = copy, alias, file

    def is_package(self, fullname: str) -> bool:
        return fullname == self.alias

    def get_filename(self, fullname: str) -> str:
        # This is not the engine's file, so a traceback asks the loader for the source, and shows
        # the lines that were run.
        return f"{self.alias}/{self.file}"

    def get_source(self, fullname: str) -> str:
        package = self.copy.package
        source = (ENGINES / package / self.file).read_text(encoding="utf-8")
        edited = self.copy.edit(self.file, source)
        for shared in self.copy.shared:
            edited = edited.replace(f"dlsys_bench.engines.{shared}", f"{self.alias}.{shared}")
        original = f"dlsys_bench.engines.{package}"
        if not self.copy.own:
            return edited.replace(original, self.alias)
        for name in self.copy.own:
            edited = edited.replace(f"{original}.{name} ", f"{self.alias}.{name} ")
        return edited


FINDER = Finder()


def load(alias: str, copy: Copy) -> type[Engine]:
    """Return the engine class of a copy, which is imported under an alias.

    Raises EngineError if the framework is missing, or if the edit does not apply.
    """
    if reason := unavailable(copy.package):
        raise EngineError(reason)
    if FINDER not in sys.meta_path:
        sys.meta_path.append(FINDER)
    FINDER.copies[alias] = copy
    module = importlib.import_module(f"{ALIAS}.{alias}")
    found: type[Engine] = getattr(module, CLASSES[copy.package])
    return found
