"""The files of a dataset: their folder, their checksums, and their download.

A file is the expected one if its content is, however it is compressed. A folder that the user gives
is only read. The cache is filled from the mirrors, and a damaged file in it is downloaded again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import platformdirs

from dlsys_bench.data.contents import Content, content_of, describe_content
from dlsys_bench.data.source import ADVICE, Source, datasets
from dlsys_bench.errors import DataError, nearest
from dlsys_bench.extras import require

VARIABLE = "DLSYS_BENCH_DATA"
DataDir = str | os.PathLike[str] | None
State = Literal["ok", "missing", "wrong"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileReport:
    """The state of one file of a dataset.

    `path` is where it is, or where it would be, `found` its SHA-256, None if it is missing, and
    `expected` that of the file as it is distributed. `description` says what a wrong file is.
    """

    file: str
    path: Path
    state: State
    expected: str
    found: str | None
    description: str = ""


class _Place(NamedTuple):
    """The folder of a dataset.

    `root` is the folder that the user gave, None for the cache, and `by` the parameter or variable
    that gave it.
    """

    folder: Path
    root: Path | None
    by: str


def verify(name: str, data_dir: DataDir = None) -> list[FileReport]:
    """Return the state of each file of a known dataset, in the order of its record.

    A dataset that is computed has no files. Raises DataError for an unknown name, or if a file
    cannot be read.
    """
    source = known(name)
    return _inspect(source, _place(source, data_dir))


def fetch(
    name: str,
    data_dir: DataDir = None,
    on_file: Callable[[FileReport], None] | None = None,
    *,
    offline: bool = False,
) -> list[Path]:
    """Return the files of a known dataset, all of them complete; call `on_file` with each.

    The files are looked up in `data_dir`, else in $DLSYS_BENCH_DATA, else in the cache. A file that
    is missing or damaged in the cache is downloaded, unless `offline`. Raises DataError with the
    file and the SHA-256 found and expected, or with the failure of every mirror, and
    MissingExtraError if a file has to be downloaded and the extra "data" is not installed.
    """
    source = known(name)
    place = _place(source, data_dir)
    paths = []
    for report in _inspect(source, place):
        if report.state != "ok":
            if place.root is not None or offline:
                raise DataError(_complaint(source, place, report))
            if report.state == "wrong":
                _log.warning("%s; it is downloaded again", _damage(report))
            # Imported here because pooch is optional, and ssl slow to import.
            require("data")
            from dlsys_bench.data.mirrors import download

            download(source, report.file, place.folder)
            report = _inspect_file(source, report.file, place.folder / report.file)
        if on_file is not None:
            on_file(report)
        paths.append(report.path)
    return paths


def known(name: str) -> Source:
    """Return the record of a known dataset. Raises DataError, which names the nearest one."""
    if name not in datasets():
        raise DataError(
            f"unknown dataset {name!r}{nearest(name, datasets())}; known: {', '.join(datasets())}"
        )
    return datasets()[name]


def checksum(path: Path) -> str | None:
    """Return the SHA-256 of a file, or None if there is no file.

    A file that does not change is read once per process.
    """
    try:
        stat = path.stat()
        return _sha256(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


@lru_cache(maxsize=256)
def _sha256(path: Path, *_version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(source: Source, data_dir: DataDir) -> _Place:
    by = "data_dir" if data_dir is not None else VARIABLE
    given = data_dir if data_dir is not None else os.environ.get(VARIABLE)
    if not given:
        return _Place(platformdirs.user_cache_path("dlsys_bench") / source.folder, None, "")
    root = Path(given).expanduser()
    inside = root / source.folder
    for folder in (inside, root):
        if any(os.path.lexists(folder / name) for file in source.files for name in _names(file)):
            return _Place(folder, root, by)
    return _Place(inside, root, by)


def _names(file: str) -> tuple[str, ...]:
    """Return the names under which people have a file: as it is distributed, unpacked, and unpacked
    by a tool that writes "-idx3" as ".idx3"."""
    unpacked = file.removesuffix(".gz")
    return file, unpacked, unpacked.replace("-idx", ".idx")


def _inspect(source: Source, place: _Place) -> list[FileReport]:
    """Return the state of each file, under the first of its names that has the expected content,
    else under the first that exists."""
    reports = []
    for file in source.files:
        found = [_inspect_file(source, file, place.folder / name) for name in _names(file)]
        ranked = sorted(found, key=lambda report: ("ok", "wrong", "missing").index(report.state))
        reports.append(ranked[0])
    return reports


def _inspect_file(source: Source, file: str, path: Path) -> FileReport:
    """Return the state of a file of a dataset at a path."""
    found, expected = checksum(path), source.files[file]
    if found is None or found == expected:
        state: State = "missing" if found is None else "ok"
        return FileReport(file, path, state, expected, found)
    content = content_of(path)
    if content is None:  # It was removed meanwhile.
        return FileReport(file, path, "missing", expected, None)
    if content.sha256 == source.contents.get(file):
        return FileReport(file, path, "ok", expected, found)
    return FileReport(file, path, "wrong", expected, found, _recognise(source, found, content))


def _recognise(source: Source, found: str, content: Content) -> str:
    """Describe a wrong file: the file of a dataset that it is, else its kind."""
    for other in datasets().values():
        for file in other.files:
            if found == other.files[file] or content.sha256 == other.contents.get(file):
                swapped = "; the files are swapped" if other is source else ""
                return f"{file} of {other.title}{swapped}"
    return describe_content(content)


def _damage(report: FileReport) -> str:
    """Describe a file that is not the expected one."""
    return (
        f"{report.path} is not the file it should be, but {report.description} "
        f"(SHA-256 found {report.found}, expected {report.expected})"
    )


def _complaint(source: Source, place: _Place, report: FileReport) -> str:
    """Describe why a dataset cannot be read from its folder."""
    if report.state == "wrong":
        return _damage(report) + (
            f"; {ADVICE}" if place.root is None else "; a given folder is never changed"
        )
    if place.root is None:
        missing = f"{report.path} is missing, and offline nothing is downloaded"
        return f"{source.title} was not found: {missing}; {ADVICE}"
    if not place.root.is_dir():
        return f"{place.by} is {place.root}, which is not a folder"
    return (
        f"{source.title} is incomplete in {place.by}: "
        f"{report.path} {_absence(report.path)} (SHA-256 expected {report.expected}); "
        f"expected {', '.join(source.files)}, gzipped or unpacked, in {place.root} or in its "
        f"folder {source.folder}"
    )


def _absence(path: Path) -> str:
    return "is a link to a file that does not exist" if path.is_symlink() else "is missing"
