"""CIFAR-10: the archive is read as its page describes it, and arms without data are left out."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlsys_bench.data import datasets, load
from dlsys_bench.errors import DataError, MissingDatasetError
from dlsys_bench.runs.run import choose_dataset
from dlsys_bench.studies.base import Case
from dlsys_bench.workloads.cifar10 import CIFAR10, TEST, TRAIN, read
from dlsys_bench.workloads.studies import STUDIES

STUDY = STUDIES["resnet/cifar10"]


def record(label: int) -> bytes:
    """Return a record: each pixel is 10 * row + column in red, 1 less in green, 2 in blue."""
    rows, columns = np.indices((32, 32))
    planes = [(10 * rows + columns - colour) % 256 for colour in range(3)]
    return bytes([label]) + np.array(planes, np.uint8).tobytes()


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


FILES = {name: record(number) for number, name in enumerate((*TRAIN, *TEST))}


def test_the_archive_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = CIFAR10.files
    folder = tmp_path / CIFAR10.folder
    folder.mkdir()
    path = archive(folder / file, FILES)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(datasets(), "cifar10", replace(CIFAR10, files={file: found}))
    data = load("cifar10", tmp_path)
    assert data.y_train.tolist() == [0, 1, 2, 3, 4]
    assert data.y_test.tolist() == [5]
    assert data.x_train.shape == (5, 32, 32, 3)
    assert data.x_train[4, 3, 7].tolist() == [37, 36, 35]
    assert data.x_train[0, 7, 3].tolist() == [73, 72, 71]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({name: FILES[name] for name in TRAIN}, "has no file .*test_batch.bin"),
        (FILES | dict.fromkeys(TEST, record(5)[:-1]), "test_batch.bin take a multiple of 3073"),
    ],
)
def test_an_incomplete_archive_is_an_error(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read(CIFAR10, [archive(tmp_path / "cifar.tar.gz", files)])
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(DataError, match="cannot read"):
        read(CIFAR10, [tmp_path / "text"])


def test_digits_do_not_replace_images_in_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(datasets(), "cifar10", CIFAR10)
    monkeypatch.setenv("DLSYS_BENCH_DATA", str(tmp_path))
    with pytest.raises(MissingDatasetError, match="cifar10 not found in .*data fetch cifar10"):
        choose_dataset(Case(STUDY, STUDY.arms[0]), None, None)
