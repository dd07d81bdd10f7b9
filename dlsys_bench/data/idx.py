"""The IDX file format, in which MNIST is distributed.

A file holds two zero bytes, a byte for the type, a byte for the number of axes, their sizes as
big-endian uint32, and the values. Source: LeCun, Cortes, Burges, the MNIST page.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import DataError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> NDArray[Any]:
    """Return the array in a gzipped IDX file.

    Raises DataError if the file cannot be read, unpacked or parsed.
    """
    try:
        # wbits 31 is the largest window with a gzip header; this is twice as fast as gzip.open.
        content = zlib.decompress(path.read_bytes(), wbits=31)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except zlib.error as error:
        raise DataError(f"{path} is not a whole gzip file: {error}") from error
    return parse_idx(content, str(path))


def parse_idx(content: bytes, where: str) -> NDArray[Any]:
    """Return the array in the content of an IDX file, in native byte order.

    `where` names the file in errors. Raises DataError if the magic number, the sizes or the length
    are not those of an IDX file.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        types = ", ".join(f"{code:02x}" for code in TYPES)
        raise DataError(
            f"{where} is not an IDX file: it begins with {content[:4].hex() or 'nothing'}, "
            f"not with 0000, a type ({types}) and the number of axes"
        )
    dtype, axes = np.dtype(TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise DataError(
            f"{where} is truncated: the sizes of its {axes} axes take {start} bytes, "
            f"it has {len(content)}"
        )
    shape = struct.unpack_from(f">{axes}I", content, 4)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        problem = "is truncated" if len(content) < expected else "has trailing bytes"
        raise DataError(
            f"{where} {problem}: {shape} of {dtype.name} take {expected} bytes, "
            f"it has {len(content)}"
        )
    try:
        values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:
        raise DataError(
            f"{where} has a shape that numpy cannot represent, {axes} axes {shape}: {error}"
        ) from error
    return values.astype(dtype.newbyteorder("="), copy=False)
