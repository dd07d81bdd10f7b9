"""CIFAR-10 in its binary version: 60,000 images of 32 x 32 pixels in three colours.

The archive has five files for training and one for testing. Each record is a byte for the label and
3,072 for the pixels: the red plane, the green one and the blue one. Source: Krizhevsky, the page of
CIFAR-10.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Dataset, Source
from dlsys_bench.data.contents import unpack
from dlsys_bench.errors import DataError

FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
TEST = (f"{FOLDER}/test_batch.bin",)
PLANES = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32

_THINGS = "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck"

CIFAR10 = Source(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10",
    classes=tuple(_THINGS.split(",")),
    shape=(32, 32, 3),
    licence="none stated by the authors, who ask for a citation",
    citation="Krizhevsky: Learning multiple layers of features from tiny images. Technical report, "
    "University of Toronto, 2009",
    # The SHA-256 that torchvision-ruby gives for this file; Keras and torchvision hash the version
    # in pickles. The second mirror is that of Swift for TensorFlow.
    files={
        "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    },
    mirrors=(
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    ),
    reader=f"{__name__}:read",
)


def read(source: Source, paths: Sequence[Path]) -> Dataset:
    """Return the dataset in the archive. Raises DataError if a file in it is missing or cut off."""
    (path,) = paths
    try:
        with tarfile.open(fileobj=io.BytesIO(unpack(path))) as archive:
            parts = [_records(archive, names, path) for names in (TRAIN, TEST)]
    except tarfile.TarError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    (x_train, y_train), (x_test, y_test) = parts
    return Dataset(source.name, x_train, y_train, x_test, y_test, source.classes, origin=str(path))


def _records(
    archive: tarfile.TarFile, names: Sequence[str], path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the images (N, 32, 32, 3) and the labels (N,) of some files, one after another."""
    content = b""
    for name in names:
        member = archive.extractfile(name) if name in archive.getnames() else None
        if member is None:
            raise DataError(f"{path} has no file {name}")
        content += member.read()
    if len(content) % RECORD:
        raise DataError(
            f"{path}: {', '.join(names)} take a multiple of {RECORD} bytes, not {len(content)}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, *PLANES).transpose(0, 2, 3, 1).copy(), records[:, 0]
