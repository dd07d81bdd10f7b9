"""One BLAS thread, so that a result depends on its seed alone."""

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
    # Looking through the loaded libraries takes a millisecond: once.
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def _in_control() -> Iterator[None]:
    """Whatever thread this is: threadpoolctl heeds only the first that ever set a limit of
    OpenBLAS."""

    def clear() -> None:
        for library in _blas().lib_controllers:
            if hasattr(library, "clear_controlling_thread"):
                library.clear_controlling_thread(force=True)

    clear()
    yield
    clear()


@contextmanager
def one_thread() -> Iterator[None]:
    """Products on one thread while anybody is inside.

    Shared out over threads, a product of matrices is cut elsewhere and rounds otherwise: as many
    threads, as many results. Products of networks this small are no slower for it, and runs side by
    side are faster.
    """
    global _inside, _limit
    with _LOCK:
        # The limit is the process's own: the first in sets it, the last out takes it back.
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
