"""The compiler of the loops in this package, which caches what it compiled on disk.

Each loop passes once over memory, runs without the interpreter's lock (GIL), and takes contiguous
arrays. In the shapes, G stands for replicas times channels, and M for all values of a channel.

Two habits keep the loops in vector instructions. Constants are converted to the dtype of the
arrays, since a Python float would widen a single-precision loop to double precision. And an inner
loop runs over a row that was sliced before, with an index from zero: numba must assume that a
computed index may be negative, and checks it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba.core import types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from dlsys_bench.engines.numba.cache import depend_on_package

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
}
"""Sums may be reordered, so that they are computed in vectors. NaN and infinity are handled as
the standard says."""


def kernel(function: F) -> F:
    """Compile a function at its first call, with the OPTIONS."""
    compiled: F = numba.njit(function, nogil=True, cache=_has_file(function), **OPTIONS)
    depend_on_package(compiled)
    return compiled


def _has_file(function: Any) -> bool:
    """Return whether the source of a function is in a file, without which numba caches nothing."""
    return Path(function.__code__.co_filename).is_file()


BORROWS = {"_nrt": False}
"""References to arrays are not counted, as the arrays outlive the call. All of a call has to be
compiled in this way: a function that counts would free the arrays that others return to it."""


def inner_kernel(function: F) -> F:
    """Compile a kernel that compiled code alone calls, that allocates no arrays, and that borrows
    those that it takes. Without the code that converts arguments from Python, and counts references
    to arrays, it takes a fraction of the time to compile."""
    without = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    options = OPTIONS | BORROWS | without
    compiled: F = numba.njit(function, nogil=True, cache=_has_file(function), **options)
    depend_on_package(compiled)
    return compiled


def expression(function: F) -> F:
    """Compile a function of one expression as a part of each caller. It may return an array."""
    compiled: F = numba.njit(function, inline="always")
    return compiled


def inlined(compiled: F) -> F:
    """Return a kernel that becomes a part of each caller that is compiled, as an `expression`.

    A caller that links to a kernel by its name has a copy of it, which is optimised in its place,
    and a process runs whichever copy it has loaded first. If the copies round differently, the bits
    of a training depend on what was compiled or trained before.
    """
    function: Any = compiled
    found: F = expression(function.py_func)
    return found


def compile_separately(function: Any, *arguments: Any) -> int:
    """Compile a kernel that returns a whole number, for arguments like these, and return its
    address for `call`.

    What calls it is compiled without it. A kernel that is called by its name is compiled again as a
    part of each of its callers.
    """
    kinds = tuple(numba.typeof(argument) for argument in arguments)
    address: int = _compile(function, kinds).address
    return address


@cache
def _compile(function: Any, kinds: tuple[Any, ...]) -> Any:
    # The code lives as long as what is returned.
    compiled: Any = CFunc(function.py_func, (kinds, types.intp), {}, OPTIONS | BORROWS)
    compiled.enable_caching()
    depend_on_package(compiled)
    compiled.compile()
    return compiled


def _typed_call(typing_context: Any, address: Any, arguments: Any) -> Any:
    """Call the function at an address, see `compile_separately`, with a tuple of arguments."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = [context.get_value_type(kind) for kind in signature.args[1]]
        function = ir.FunctionType(context.get_value_type(types.intp), kinds)
        pointer = builder.inttoptr(values[0], function.as_pointer())
        every = [builder.extract_value(values[1], number) for number in range(len(kinds))]
        return builder.call(pointer, every)

    return types.intp(types.intp, arguments), generate


call: Any = intrinsic(_typed_call)
