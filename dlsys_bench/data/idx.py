"""The IDX file format, in which MNIST is distributed.

A file holds two zero bytes, a byte for the type, a byte for the number of axes, their sizes as
big-endian uint32, and the values. Source: LeCun, Cortes, Burges, the MNIST page.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.errors import DataError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def describe_idx(head: bytes, size: int) -> str:
    """Describe an IDX file of a size in bytes by its first bytes; return "" if it is none."""
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES:
        return ""
    dtype, axes = np.dtype(TYPES[head[2]]), head[3]
    start = 4 + 4 * axes
    if len(head) < start:
        return f"truncated in its header of {start} bytes"
    shape = struct.unpack_from(f">{axes}I", head, 4)
    expected = start + math.prod(shape) * dtype.itemsize
    sizes = "" if size == expected else f", which takes {expected:,} bytes, but it has {size:,}"
    return f"{dtype.name} of shape {shape}{sizes}"


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
