"""The parsed files of the repository. Each is parsed once, in the worker that runs these tests."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

import pytest

one_worker = pytest.mark.xdist_group("parsed files")
"""The mark of the tests that read the files."""


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a file, the module first."""
    found = tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    gc.freeze()  # A later collection of garbage would visit every node.
    return found
