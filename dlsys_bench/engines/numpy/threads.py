"""Limit BLAS to one thread, so that a result depends on its seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

_LOCK = Lock()
_inside, _limit = 0, None


@cache
def _blas() -> Any:
    # Finding the loaded libraries takes a millisecond, so it is done once.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def _in_control() -> Iterator[None]:
    """Let this thread set limits: threadpoolctl otherwise obeys only the thread that set the first
    limit of OpenBLAS."""

    def clear() -> None:
        for library in _blas().lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)

    clear()
    yield
    clear()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute matrix products on one thread while any thread of the process is inside.

    BLAS splits a product differently for each number of threads, which changes its rounding. One
    thread is no slower for products of networks this small, and faster where several runs share the
    machine.
    """
    global _inside, _limit
    with _LOCK:
        # The limit holds for the process: the first to enter sets it, the last to leave restores
        # it.
        if not _inside:
            with _in_control():
                _limit = _blas().limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside and _limit is not None:
                with _in_control():
                    _limit.restore_original_limits()
