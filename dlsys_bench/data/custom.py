"""Custom datasets: an .npz archive of arrays, or a callable that returns a dataset."""

from __future__ import annotations

import traceback
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.attributes import load_attribute
from dlsys_bench.data.contents import content_of, describe_content
from dlsys_bench.data.dataset import ARRAYS, Dataset
from dlsys_bench.data.labels import renumber
from dlsys_bench.errors import DataError, UserError, nearest, type_of
from dlsys_bench.text import describe, place_of

# A label above this, in an archive without class names, is taken for an error.
MAX_UNNAMED_CLASSES = 65_536

UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""The errors of numpy and zipfile for a file that is no whole archive."""


def from_archive(path: Path) -> Dataset:
    """Return the dataset in an .npz file: x_train, y_train, x_test, y_test, and optionally classes.

    `classes` (K,) holds the class names; without it, classes are named by their numbers. Raises
    DataError if the file cannot be read, an array is missing or holds Python objects (which are
    never unpickled), or the arrays are not a valid dataset.
    """
    try:
        # Given a path, np.load would leave the file open if it turned out not to be an archive.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is one array, not an .npz; numpy.savez writes one")
            arrays = {
                name: _read(path, archive, name)
                for name in (*ARRAYS, "classes")
                if name in archive.files or name in ARRAYS
            }
    except UNREADABLE as error:
        raise DataError(f"cannot read {path}: {_reason(path, error)}") from error
    classes = arrays.pop("classes", None)
    names = (
        _classes(arrays["y_train"], arrays["y_test"])
        if classes is None
        else tuple(map(str, classes.ravel()))
    )
    if classes is None and names and (wrong := renumber(arrays["y_train"], arrays["y_test"])):
        raise DataError(f"{path}: y_train and y_test: {wrong.removeprefix('; ')}")
    x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
    return Dataset(path.stem, x_train, y_train, x_test, y_test, names, origin=str(path))


def _read(path: Path, archive: Any, name: str) -> NDArray[Any]:
    """Return an array of an archive. Raises DataError if it is missing or holds objects."""
    if name not in archive.files:
        raise DataError(
            f"{path} has no array {name!r}{nearest(name, archive.files)}; "
            f"expected {', '.join(ARRAYS)} and optionally classes, "
            f"and has {', '.join(archive.files) or 'none'}"
        )
    try:
        values: NDArray[Any] = archive[name]
    except ValueError as error:
        raise DataError(f"cannot read {path}: {name}: {error}") from error
    return values


def _reason(path: Path, error: Exception) -> object:
    """Return why an archive cannot be read: what it is, if it is no archive."""
    if isinstance(error, OSError):
        return error.strerror or error
    content = content_of(path)
    if content is None or zipfile.is_zipfile(path):
        return error
    if content.head.startswith(b"PK"):
        return f"it is a truncated or damaged archive: {error}"
    return f"it is {describe_content(content)}"


def _classes(*labels: NDArray[Any]) -> tuple[str, ...]:
    """Return the numbers up to the largest label as names, () for the targets of a regression."""
    if not all(y.dtype.kind in "iu" and y.size for y in labels):
        return ()
    largest = max(int(y.max()) for y in labels)
    return tuple(map(str, range(min(max(largest, 0) + 1, MAX_UNNAMED_CLASSES))))


def from_callable(name: str, *arguments: object) -> Dataset:
    """Return the dataset that the callable named "package.module:NAME" returns.

    Raises DataError if it cannot be imported, raises an exception, or returns something else.
    """
    make = load_attribute(name, "dataset", DataError)
    if not callable(make):
        raise DataError(f"dataset {name!r} is {type_of(make)}; expected a callable")
    try:
        dataset = make(*arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        # The innermost frame is where the author looks first; --verbose prints the traceback.
        place = place_of(traceback.extract_tb(error.__traceback__)[-1])
        raise DataError(f"dataset {name!r} raised {describe(error)} at {place}") from error
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"dataset {name!r} returned {type_of(dataset)}; "
            "it has to return dlsys_bench.data.Dataset"
        )
    return dataset
