"""The cache of compiled code on disk, which depends on the source of the whole package.

numba discards the code of a function if the file of that function has changed. The code also
contains the functions that it calls, from other files, and the index of the cache refers to classes
by the names of their modules: after one of them was renamed, numba could not read the index.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile


def digest_of(folder: Path) -> str:
    """Return a digest of the sources in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


SOURCES = digest_of(Path(__file__).parent)


class PackageIndex(IndexDataCacheFile):  # type: ignore[misc]
    """The index of the compiled versions of a function. One that cannot be read is empty."""

    def _load_index(self) -> dict[Any, str]:
        try:
            found: dict[Any, str] = super()._load_index()
        except (ImportError, AttributeError, EOFError, ValueError):
            return {}
        return found


def depend_on_package(compiled: Any) -> None:
    """Let the cached code of a function be used only with the sources that it was compiled from."""
    cache: Any = getattr(compiled, "_cache", None)
    # There is no cache if compilation is disabled (NUMBA_DISABLE_JIT).
    if hasattr(cache, "_cache_file"):
        name = cache._impl.filename_base
        cache._cache_file = PackageIndex(cache.cache_path, name, SOURCES)
