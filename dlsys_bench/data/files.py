"""The files of a data set: where they are looked for, whether they are whole, and how they get
there.

A folder that a person gives is read, never written to. The cache is filled from the mirrors, and
mended.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from dlsys_bench.data.source import ADVICE, Source, datasets
from dlsys_bench.errors import DataError, nearest

VARIABLE = "DLSYS_BENCH_DATA"
DataDir = str | os.PathLike[str] | None

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileReport:
    """One file of a data set: `found` is its SHA-256, None where it is missing."""

    file: str
    path: Path
    state: Literal["ok", "missing", "wrong"]
    expected: str
    found: str | None


class _Place(NamedTuple):
    """The folder of a data set; `root` is the folder that a person gave and `by` how, None for the
    cache."""

    folder: Path
    root: Path | None
    by: str


def verify(name: str, data_dir: DataDir = None) -> list[FileReport]:
    """How each file of a known data set stands, in the order of its record; an embedded one has
    none.

    Errors: DataError for an unknown name, and where a file cannot be read.
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
    """The files of a known data set, every one whole; `on_file` gets each as it is there.

    They are looked for in `data_dir`, else in $DLSYS_BENCH_DATA, else in the cache, which downloads
    what it lacks and replaces what is damaged unless `offline`. Errors: DataError that names the
    file, with the SHA-256 found and expected, or every mirror with its failure.
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
            # Here, because urllib and ssl are slow to import and most loads need neither.
            from dlsys_bench.data.mirrors import download

            download(source, report.file, place.folder)
            report = replace(report, state="ok", found=report.expected)
        if on_file is not None:
            on_file(report)
        paths.append(report.path)
    return paths


def known(name: str) -> Source:
    """The record of a known data set; a DataError names the nearest."""
    if name not in datasets():
        raise DataError(
            f"unknown dataset {name!r}{nearest(name, datasets())}; known: {', '.join(datasets())}"
        )
    return datasets()[name]


def checksum(path: Path) -> str | None:
    """The SHA-256 of a file, None where there is none. A file that has not changed is read once per
    process."""
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
        import pooch  # type: ignore[import-untyped]

        return _Place(Path(pooch.os_cache("dlsys_bench")) / source.folder, None, "")
    root = Path(given).expanduser()
    inside = root / source.folder
    for folder in (inside, root):
        if any(os.path.lexists(folder / file) for file in source.files):
            return _Place(folder, root, by)
    return _Place(inside, root, by)


def _inspect(source: Source, place: _Place) -> list[FileReport]:
    reports = []
    for file, expected in source.files.items():
        path = place.folder / file
        found = checksum(path)
        state: Literal["ok", "missing", "wrong"] = (
            "missing" if found is None else "ok" if found == expected else "wrong"
        )
        reports.append(FileReport(file, path, state, expected, found))
    return reports


def _damage(report: FileReport) -> str:
    """What is wrong with a file that is there."""
    owners = [
        f" ({source.title} has a file of that SHA-256)"
        for source in datasets().values()
        if report.found in source.files.values()
    ]
    return (
        f"{report.path} is not the file it should be: SHA-256 found {report.found}{''.join(owners)}, "
        f"expected {report.expected}"
    )


def _complaint(source: Source, place: _Place, report: FileReport) -> str:
    """Why a data set cannot be had from where it was looked for."""
    if report.state == "wrong":
        return _damage(report) + (
            f"; {ADVICE}" if place.root is None else "; a given folder is never changed"
        )
    if place.root is None:
        return f"{source.title} is not at hand: {report.path} is missing, and offline nothing is downloaded; {ADVICE}"
    if not place.root.is_dir():
        return f"{place.by} is {place.root}, which is not a folder"
    return (
        f"{source.title} is not whole in {place.by}: {report.path} is missing (SHA-256 expected {report.expected}); "
        f"{place.root} takes {source.folder}{os.sep} with {', '.join(source.files)}, or these themselves"
    )
