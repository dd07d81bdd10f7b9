"""The effort of jax's compiler. Programs of little work (see `engines.work`) are compiled without
optimisations, which would take longer than they save."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

# Without these optimisations, and in one piece, compiling a program takes a sixth of the time.
FAST_COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}


# The number of compiled programs of each kind that are kept: property tests draw many networks.
PROGRAMS = 64


@functools.cache
def _known_options() -> dict[str, Any]:
    """Return the options of `jax.jit`, or none if this jax does not know FAST_COMPILE: these are
    switches of its compiler, which come and go."""
    try:
        jax.jit(lambda x: x + 1, compiler_options=FAST_COMPILE)(0.0)
    except Exception:  # A TypeError, or an error of the compiler's, by version.
        return {}
    return {"compiler_options": FAST_COMPILE}


def compile_program(function: Callable[..., Any], *, fast: bool = True, **options: Any) -> Any:
    """Compile a function with options of `jax.jit`, fast or optimised."""
    return jax.jit(function, **options, **(_known_options() if fast else {}))
