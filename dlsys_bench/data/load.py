"""Loading of a dataset by its name."""

from __future__ import annotations

from pathlib import Path

from dlsys_bench.data.contents import unpack
from dlsys_bench.data.custom import from_archive, from_callable
from dlsys_bench.data.dataset import Dataset
from dlsys_bench.data.files import DataDir, fetch, verify
from dlsys_bench.data.idx import parse_idx
from dlsys_bench.data.source import Source, datasets
from dlsys_bench.errors import DataError, nearest


def load(name: str, data_dir: DataDir = None, *, offline: bool = False) -> Dataset:
    """Return a dataset, given a name in `datasets()`, an .npz path or "package.module:NAME".

    The files of a named dataset are read from `data_dir`, from $DLSYS_BENCH_DATA or from the cache,
    in this order of preference. Files missing from the cache are downloaded, unless `offline`.
    Their content is verified by its SHA-256. Raises DataError if the name is unknown or the data
    are missing.
    """
    if name in datasets():
        source = datasets()[name]
        if source.factory:
            return from_callable(source.factory)
        return _read(source, fetch(name, data_dir, offline=offline))
    if name.endswith(".npz"):
        return from_archive(Path(name).expanduser())
    if ":" in name:
        return from_callable(name)
    raise _unknown(name)


def is_available(name: str, data_dir: DataDir = None) -> bool:
    """Return True if `load` can load the dataset without the network.

    The files of a named dataset have to be present and intact; a callable is not called. Raises
    DataError if the name is unknown.
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
    if source.reader:
        return from_callable(source.reader, source, paths)
    x_train, y_train, x_test, y_test = (parse_idx(unpack(path), str(path)) for path in paths)
    return Dataset(source.name, x_train, y_train, x_test, y_test, source.classes)


def _unknown(name: str) -> DataError:
    return DataError(
        f"unknown dataset {name!r}{nearest(name, datasets())}; "
        f"expected {', '.join(datasets())}, the path of an .npz, or package.module:callable"
    )
