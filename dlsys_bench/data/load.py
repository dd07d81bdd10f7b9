"""From the name of a data set to the data set."""

from __future__ import annotations

from pathlib import Path

from dlsys_bench.data.custom import from_archive, from_callable
from dlsys_bench.data.dataset import Dataset
from dlsys_bench.data.files import DataDir, fetch, verify
from dlsys_bench.data.idx import read_idx
from dlsys_bench.data.source import Source, datasets
from dlsys_bench.errors import DataError, nearest


def load(name: str, data_dir: DataDir = None, *, offline: bool = False) -> Dataset:
    """A data set by a name in `datasets()`, the path of an .npz, or `package.module:callable`.

    The files of a known data set are looked for in `data_dir`, else in $DLSYS_BENCH_DATA, else in
    the cache, which downloads what it lacks unless `offline`; their SHA-256 is checked. Errors:
    DataError.
    """
    if name in datasets():
        source = datasets()[name]
        return (
            from_callable(source.factory)
            if source.factory
            else _read(source, fetch(name, data_dir, offline=offline))
        )
    if name.endswith(".npz"):
        return from_archive(Path(name).expanduser())
    if ":" in name:
        return from_callable(name)
    raise _unknown(name)


def is_available(name: str, data_dir: DataDir = None) -> bool:
    """Whether `load` needs no network for it: every file is there, readable and whole. A callable
    is taken at its word.

    Errors: DataError for an unknown name.
    """
    if name in datasets():
        try:
            return all(report.state == "ok" for report in verify(name, data_dir))
        except DataError:
            return False
    if name.endswith(".npz"):
        return Path(name).expanduser().is_file()
    if ":" in name:
        return True
    raise _unknown(name)


def _read(source: Source, paths: list[Path]) -> Dataset:
    x_train, y_train, x_test, y_test = map(read_idx, paths)
    return Dataset(source.name, x_train, y_train, x_test, y_test, source.classes)


def _unknown(name: str) -> DataError:
    return DataError(
        f"unknown dataset {name!r}{nearest(name, datasets())}; it takes {', '.join(datasets())}, the path of an .npz, "
        "or package.module:callable"
    )
