"""Matrix products on blocks: of some columns of a matrix, or some of its rows.

numba's own products take whole arrays, so that a block would have to be copied first.
"""

from __future__ import annotations

from typing import Any

import scipy.linalg.cython_blas  # noqa: F401  (numba finds the library through this module)
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from dlsys_bench.engines.numba.kernel import inner_kernel
from dlsys_bench.engines.plan import Array

AS_IS, TRANSPOSED = ord("n"), ord("t")


def _typed_pointer(typing: Any, value: Any) -> Any:
    """Return a pointer to a value on the stack."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return cgutils.alloca_once_value(builder, arguments[0])

    return types.CPointer(value)(value), generate


_pointer: Any = intrinsic(_typed_pointer)


def _multiply(a: Any, b: Any, c: Any, letters: Any, sizes: Any) -> None:
    """Compute c = a b by BLAS. See `multiply`."""
    raise NotImplementedError


def _compile_multiply(a: Any, b: Any, c: Any, letters: Any, sizes: Any) -> Any:
    letter = ord("s" if c.dtype == types.float32 else "d")
    matrix, size = types.CPointer(c.dtype), types.intp
    letters_, sizes_ = (types.char,) * 3, (size,) * 3
    operands = (matrix, matrix, size, matrix, size, matrix, matrix, size)
    # numba's entrance to BLAS: letters of the dtype and the transposes, m, n and k, alpha, both
    # factors with their row lengths, beta, and the result with its row length.
    gemm = types.ExternalFunction("numba_xxgemm", types.intc(*letters_, *sizes_, *operands))

    def compute(a: Any, b: Any, c: Any, letters: Any, sizes: Any) -> None:
        m, n, k, of_a, of_b, of_c = sizes
        one, zero = _pointer(c.dtype.type(1)), _pointer(c.dtype.type(0))
        # BLAS stores columns first: what it computes as b a is c, transposed.
        first, second = letters[1], letters[0]
        gemm(
            letter,
            first,
            second,
            n,
            m,
            k,
            one,
            b.ctypes,
            of_b,
            a.ctypes,
            of_a,
            zero,
            c.ctypes,
            of_c,
        )

    return compute


overload(_multiply)(_compile_multiply)


@inner_kernel
def multiply(a: Array, b: Array, c: Array, letters: tuple[int, int], sizes: Any) -> None:
    """Compute c (m, n) = a (m, k) b (k, n), where a and b are AS_IS or TRANSPOSED in memory.

    The arrays are flat and begin with the first value of their block. The sizes are m, n and k,
    followed by the lengths of a row of a, b and c in memory.
    """
    _multiply(a, b, c, letters, sizes)
