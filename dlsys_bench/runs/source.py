"""The source code that a training depends on, by static analysis, without importing anything.

Starting from the name of the training, the analysis follows every name that its code uses: to
functions, classes and constants of its module, and through imports to other modules of the user. A
module of the user is one that is not installed: neither part of Python nor in `site-packages`. What
is installed is covered by its version instead.

The digests are those of the syntax tree, so that comments, docstrings and the layout of the code do
not matter, and neither do functions that the training does not reach. Statements that run when a
module is imported, such as `torch.set_num_threads(1)`, belong to every training of that module. The
whole module counts where a name cannot be followed: after `from module import *`, or where the code
uses `globals`, `eval`, `exec`, `getattr` on a module, or a module as a value.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from dlsys_bench.runs.module_files import is_installed, is_this_package, spec_of

WHOLE = "*"
"""The name that stands for every statement of a module."""

DYNAMIC = frozenset({"globals", "eval", "exec", "vars", "locals", "__import__"})
"""Functions that use names which cannot be seen in the source."""


@dataclass
class TrainingSource:
    """The code of a training and what it imports.

    `digests` maps "module.name" to the digest of the statements that bind the name, and "module" to
    that of the statements that run on import. `imported` holds the top-level names of the installed
    packages, and `words` every string constant, for the names of environment variables.
    """

    digests: dict[str, str] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)


def source_of(module: str, name: str) -> TrainingSource:
    """Return the code that the name of a module depends on.

    A module without source, such as an interactive session, has no code and imports nothing.
    """
    found, left, seen = TrainingSource(), [(module, name)], set()
    while left:
        reference = left.pop()
        if reference in seen:
            continue
        seen.add(reference)
        left += _follow(found, *reference)
    return found


def _follow(found: TrainingSource, module: str, name: str) -> Iterator[tuple[str, str]]:
    """Record the statements of one name, and yield the references in them."""
    if package := module.rpartition(".")[0]:
        yield package, ""
    if (parsed := _parsed(module)) is None:
        yield from _follow_other(found, module, name)
        return
    yield from parsed.imported_on_import
    bound = parsed.all_statements if name == WHOLE else parsed.bindings.get(name, [])
    for key, statements in ((module, parsed.effects), (f"{module}.{name}", bound)):
        if not statements:
            continue
        found.digests[key] = _digest(statements)
        for statement in statements:
            found.words |= _words(statement)
            yield from parsed.references(statement)
    if not bound:
        yield from _submodule(module, name)


def _follow_other(found: TrainingSource, module: str, name: str) -> Iterator[tuple[str, str]]:
    """Record a module that is no Python source of the user: an installed one by its top-level name,
    a compiled one by its content. The modules of a namespace package are followed."""
    spec = spec_of(module)
    if spec is None:
        return
    if spec.origin is None:
        yield from _submodule(module, name)
    elif is_installed(Path(spec.origin)) or is_this_package(module):
        found.imported.add(module.partition(".")[0])
    elif Path(spec.origin).is_file():
        found.digests[module] = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


def _submodule(package: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield the module of a package that a name refers to, if there is one."""
    if name not in ("", WHOLE) and spec_of(f"{package}.{name}") is not None:
        yield f"{package}.{name}", ""


class Module:
    """A module of the user: its top-level statements by the names that they bind."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_bytes(), str(path))
        self.all_statements: list[ast.stmt] = _DocstringRemover().visit(tree).body
        self.bindings: dict[str, list[ast.stmt]] = {}
        self.effects: list[ast.stmt] = []
        for statement in self.all_statements:
            if _is_inert(statement):
                continue
            names = list(_bound_names(statement))
            for name in names:
                self.bindings.setdefault(name, []).append(statement)
            if not names:
                self.effects.append(statement)

    @cached_property
    def imports(self) -> dict[str, tuple[str, str]]:
        """The module and the name that each imported name of the module stands for, with an empty
        name for a module itself."""
        nodes = (node for each in self.all_statements for node in ast.walk(each))
        return dict(found for node in nodes for found in _imports(node, self.package))

    @cached_property
    def imported_on_import(self) -> list[tuple[str, str]]:
        """The modules that are imported with this one, whose statements then run."""
        nodes = [node for each in self.all_statements for node in _outside_functions(each)]
        found = [target for node in nodes for _, target in _imports(node, self.package)]
        return [(module, name if name == WHOLE else "") for module, name in found]

    def references(self, statement: ast.stmt) -> Iterator[tuple[str, str]]:
        """Yield the module and the name of everything that a statement uses."""
        attributes = [node for node in ast.walk(statement) if isinstance(node, ast.Attribute)]
        followed = {id(node.value) for node in attributes}
        for attribute in attributes:
            yield from self._attribute(attribute)
        for node in ast.walk(statement):
            for _, (module, name) in _imports(node, self.package):
                yield module, name
            if isinstance(node, ast.Call) and (module := _imported_by_name(node)):
                yield module, WHOLE
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                yield from self._name(node.id, whole=id(node) not in followed)

    def _attribute(self, node: ast.Attribute) -> Iterator[tuple[str, str]]:
        """Yield what `module.name` and `package.module.name` refer to."""
        chain = [node.attr]
        value = node.value
        while isinstance(value, ast.Attribute):
            chain.append(value.attr)
            value = value.value
        if not isinstance(value, ast.Name) or self.imports.get(value.id, ("", "?"))[1]:
            return
        module = self.imports[value.id][0]
        for part in reversed(chain):
            yield module, part
            module = f"{module}.{part}"

    def _name(self, name: str, *, whole: bool) -> Iterator[tuple[str, str]]:
        """Yield what a name refers to; a module that is used as a value is used as a whole."""
        if name in DYNAMIC:
            yield self.name, WHOLE
        if name in self.imports and not self.imports[name][1] and whole:
            yield self.imports[name][0], WHOLE
        if name in self.bindings:
            yield self.name, name


def _outside_functions(statement: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a statement that run when its module is imported."""
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
        return
    yield statement
    if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(statement):
            yield from _outside_functions(child)


def _imported_by_name(call: ast.Call) -> str:
    """Return the module of `importlib.import_module("module")`, or nothing."""
    called = call.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    first = call.args[0] if call.args else None
    if name != "import_module" or not isinstance(first, ast.Constant):
        return ""
    return str(first.value)


def _imports(node: ast.AST, package: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the names that an import binds, each with the module and the name it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield alias.asname or top, (alias.name if alias.asname else top, "")
            if not alias.asname and alias.name != top:
                yield alias.name, (alias.name, "")
    elif isinstance(node, ast.ImportFrom):
        module = _absolute(node.module or "", node.level, package)
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            is_module = alias.name != WHOLE and spec_of(inner) is not None
            yield alias.asname or alias.name, (inner, "") if is_module else (module, alias.name)


def _absolute(module: str, level: int, package: str) -> str:
    """Return the absolute name of the module of `from ..module import name`."""
    if not level:
        return module
    parts = package.split(".")
    base = parts[: len(parts) - level + 1]
    return ".".join([*base, module] if module else base)


def _bound_names(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a top-level statement binds, if it does nothing else."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        for name, _ in _imports(statement, ""):
            yield name.partition(".")[0]
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node for target in targets for node in _elements(target)]
        if all(isinstance(node, ast.Name) for node in names):
            yield from (node.id for node in names if isinstance(node, ast.Name))
    elif isinstance(statement, ast.If | ast.Try | ast.With | ast.For | ast.While):
        # Such a statement may have effects besides, but if all it does is to bind names, they
        # are those that count: `try: import torch` or `if TYPE_CHECKING:`.
        inner = [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt)]
        handlers = getattr(statement, "handlers", [])
        inner += [each for handler in handlers for each in handler.body]
        names_of = [list(_bound_names(each)) for each in inner]
        if all(names or _is_inert(each) for names, each in zip(names_of, inner, strict=True)):
            yield from (name for names in names_of for name in names)


def _elements(target: ast.expr) -> Iterable[ast.expr]:
    return target.elts if isinstance(target, ast.Tuple | ast.List) else [target]


def _is_inert(statement: ast.stmt) -> bool:
    """Return True for a statement without an effect on a training: `pass`, a constant, or the
    script part `if __name__ == "__main__"`."""
    if isinstance(statement, ast.Pass) or _is_constant(statement):
        return True
    return isinstance(statement, ast.If) and "__name__" in {
        node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)
    }


class _DocstringRemover(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [each for each in body if not _is_constant(each)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _words(statement: ast.stmt) -> set[str]:
    return {
        node.value
        for node in ast.walk(statement)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _digest(statements: Iterable[ast.stmt]) -> str:
    text = "\n".join(ast.dump(statement) for statement in statements)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def _read(name: str, path: Path, modified: int) -> Module:
    return Module(name, path)


def _parsed(module: str) -> Module | None:
    """Return a module of the user, or None for any other."""
    if is_this_package(module):
        return None
    spec = spec_of(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    if is_installed(path):
        return None
    try:
        return _read(module, path, path.stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError):
        return None
