"""Rules for the source of the package: which module may import which, and how long things are.

Each test lists every offender. The layers are those of CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from parsed import nodes, one_worker

import dlsys_bench

pytestmark = one_worker

PACKAGE = Path(dlsys_bench.__file__).parent

# Each layer imports only from those below it; the modules of one line do not import each other.
LAYERS = (
    "__main__ __init__",
    "cli plugin",
    "options",
    "report strategies",
    "conformance",
    "verdicts",
    "timing",
    "runs",
    "studies",
    "engines",
    "data",
    "spec",
    "provenance",
    "attributes extras silence",
    "entry_points",
    "errors process_tree strict_json text",
)
HEIGHT = {name: -depth for depth, names in enumerate(LAYERS) for name in names.split()}

# A guest imports what it likes below the command line, and nothing outside it imports it.
GUESTS = {"notebooks", "workloads"}
CEILING = HEIGHT["cli"]

FRAMEWORKS = {"numba", "torch", "tensorflow", "keras", "jax"}

# Some platforms lack these. Each of the places falls back to something else where it must.
PLATFORM_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "msvcrt"}
PLATFORM_NAMES = re.compile(r"sched_\w+|getrusage|killpg|setsid|/proc/.*")
PLATFORM_PLACES = {
    "conformance/supervisor.py": {"resource", "setsid", "/proc/self/oom_score_adj"},
    "engines/numba/spin_barrier.py": {"sched_yield"},
    "process_tree.py": {"killpg"},
    "provenance.py": {"/proc/cpuinfo"},
    "runs/calibration/local.py": {"setsid"},
    "runs/dependencies.py": {"/proc/driver/nvidia/version"},
    "timing/benchmark.py": {"resource", "getrusage"},
}


class Source(NamedTuple):
    """A parsed file of the package."""

    path: Path
    text: str
    nodes: tuple[ast.AST, ...]

    @property
    def name(self) -> str:
        """The path inside the package, with forward slashes."""
        return self.path.relative_to(PACKAGE).as_posix()

    @property
    def part(self) -> str:
        """The module or sub-package at the top of the package."""
        return self.name.partition("/")[0].removesuffix(".py")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yield line and module of each import; `from dlsys_bench import x` is dlsys_bench.x."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module == "dlsys_bench":
                yield from ((node.lineno, f"dlsys_bench.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.lineno, node.module

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


@cache
def sources() -> list[Source]:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    return [Source(path, text, nodes(path)) for path, text in texts.items()]


def assert_none(offenders: list[str], rule: str) -> None:
    assert not offenders, "\n  ".join([f"{rule}:", *offenders])


def test_every_module_belongs_to_a_layer() -> None:
    assert {source.part for source in sources()} <= {*HEIGHT, *GUESTS}


def test_imports_point_downwards() -> None:
    offenders = []
    for source in sources():
        for line, module in source.imports():
            package, _, rest = module.partition(".")
            target = rest.partition(".")[0]
            if package != "dlsys_bench" or target in ("", source.part):
                continue
            if source.part in GUESTS:
                allowed = HEIGHT.get(target, CEILING) < CEILING
            else:
                allowed = target not in GUESTS and HEIGHT.get(target, 0) < HEIGHT[source.part]
            if not allowed:
                offenders.append(f"{source.name}:{line} imports {module}")
    assert_none(offenders, "imports that do not point to a lower layer")


def test_frameworks_are_imported_by_their_engines_only() -> None:
    offenders = [
        f"{source.name}:{line} imports {module}"
        for source in sources()
        if source.part != "engines"
        for line, module in source.imports()
        if module.partition(".")[0] in FRAMEWORKS
    ]
    assert_none(offenders, "frameworks outside dlsys_bench/engines")


def test_scipy_loads_its_slow_parts_when_they_are_used() -> None:
    """`import scipy` loads a part at its first use; these take half of the start of a command."""
    slow = {"scipy.stats", "scipy.optimize"}
    offenders = [
        f"{source.name}:{node.lineno}"
        for source in sources()
        for node in source.nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        and slow.intersection(
            [str(getattr(node, "module", ""))]
            + [f"{getattr(node, 'module', '')}.{alias.name}".strip(".") for alias in node.names]
        )
    ]
    assert_none(offenders, "imports of scipy.stats or scipy.optimize instead of scipy")


def test_the_specification_holds_no_arrays() -> None:
    offenders = [
        f"{source.name}:{line} imports {module}"
        for source in sources()
        if source.part == "spec"
        for line, module in source.imports()
        if module.partition(".")[0] == "numpy"
    ]
    assert_none(offenders, "numpy in dlsys_bench/spec")


def platform_names(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and name of whatever exists on some platforms only."""
    for line, module in source.imports():
        if module in PLATFORM_MODULES:
            yield line, module
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and PLATFORM_NAMES.fullmatch(node.attr):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and PLATFORM_NAMES.fullmatch(str(node.value)):
            yield node.lineno, str(node.value)


def test_what_exists_on_some_platforms_is_used_in_known_places_only() -> None:
    offenders = [
        f"{source.name}:{line} uses {name}"
        for source in sources()
        for line, name in platform_names(source)
        if name not in PLATFORM_PLACES.get(source.name, set())
    ]
    assert_none(offenders, "names that some platforms lack, outside PLATFORM_PLACES")


def test_imports_stand_at_the_top_of_their_module() -> None:
    inner = {
        f"{source.name}:{node.lineno}"
        for source in sources()
        for function in source.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert len(inner) <= 25, f"{len(inner)} imports inside functions: {sorted(inner)}"


def test_functions_take_at_most_eight_parameters() -> None:
    offenders = [
        f"{source.name}:{function.lineno} {function.name} takes {count}"
        for source in sources()
        for function in source.functions()
        if (
            count := len(
                [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            )
        )
        > 8
    ]
    assert_none(offenders, "functions with more than 8 parameters")


def test_functions_and_files_are_short() -> None:
    functions = [
        f"{source.name}:{function.lineno} {function.name} has {length} lines"
        for source in sources()
        for function in source.functions()
        if (length := (function.end_lineno or 0) - function.lineno + 1) > 40
    ]
    assert len(functions) <= 10, "\n  ".join(
        ["more than 40 lines, of which 10 may be:", *functions]
    )
    files = [
        f"{source.name} has {length} lines"
        for source in sources()
        if (length := len(source.text.splitlines())) > 300
    ]
    assert len(files) <= 3, "\n  ".join(["more than 300 lines, of which 3 may be:", *files])


def test_the_formatter_is_rarely_switched_off() -> None:
    offenders = [
        f"{source.name}:{number}"
        for source in sources()
        for number, line in enumerate(source.text.splitlines(), 1)
        if re.search(r"# fmt: (skip|off)", line)
    ]
    assert len(offenders) < 20, offenders


def definitions(source: Source) -> Iterator[str]:
    """Yield the names of the classes and type aliases at the top of a file."""
    (module,) = (node for node in source.nodes if isinstance(node, ast.Module))
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[:1].isupper() and not name.isupper():
                yield name


def test_a_name_has_one_definition() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for source in sources():
        for name in definitions(source):
            homes[name].add(source.name)
    offenders = [
        f"{name}: {', '.join(sorted(where))}" for name, where in homes.items() if len(where) > 1
    ]
    assert_none(sorted(offenders), "classes and aliases that are defined in several modules")


def public_definitions(source: Source) -> Iterator[tuple[str, str | None]]:
    """Yield the place and the docstring of each public module, class and function."""
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            name = getattr(node, "name", source.part)
            if not name.startswith("_"):
                yield f"{source.name}:{getattr(node, 'lineno', 1)} {name}", ast.get_docstring(node)


def test_public_definitions_have_docstrings_that_name_or_instruct() -> None:
    found = [item for source in sources() for item in public_definitions(source)]
    bare = [place for place, doc in found if doc is None]
    assert len(bare) <= 0.15 * len(found), "\n  ".join(["without a docstring:", *bare])
    questions = [
        f"{place}: {doc[:50]!r}"
        for place, doc in found
        if doc and re.match(r"(what|how|whether|why)\b", doc, re.IGNORECASE)
    ]
    assert len(questions) <= 0.05 * len(found), "\n  ".join(["begin with a question:", *questions])
