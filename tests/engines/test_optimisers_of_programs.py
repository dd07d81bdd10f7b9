"""The compiled updates of a program link to no kernel of the rules."""

from __future__ import annotations

import numpy as np
import pytest

from dlsys_bench.engines.registry import unavailable

if reason := unavailable("numba"):
    pytest.skip(reason, allow_module_level=True)

import numba
from numba.core import types
from numba.core.ccallback import CFunc

from dlsys_bench.engines.numba.kernel import BORROWS, OPTIONS
from dlsys_bench.engines.numba.program.updates import UPDATES


@pytest.mark.parametrize("kind", UPDATES)
def test_an_update_contains_what_it_computes(kind: int) -> None:
    """With a copy of a kernel that the rules have too, a process would run whichever copy it had
    loaded first, and a training would have other bits after one by the rules, or after that of
    another process had filled the cache."""
    function, array = UPDATES[kind].py_func, np.zeros(4, np.float32)
    given = tuple(map(numba.typeof, (*(array,) * 5, np.zeros(4))))
    compiled = CFunc(function, (given, types.intp), {}, OPTIONS | BORROWS)
    compiled.compile()
    code = compiled.inspect_llvm()
    assert function.__name__ in code
    assert "numba10optimizers" not in code
