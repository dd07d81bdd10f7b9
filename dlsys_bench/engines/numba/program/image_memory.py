"""Where images are in memory. `image_tables` describes rows and images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.kernel import inner_kernel
from dlsys_bench.engines.numba.program.lanes import LANES

Chunk = tuple[int, int, int]
"""The number of a chunk, its samples, and the most chunks, for which there is memory."""

ChunkMask = tuple[NDArray[np.bool_], int, int]
"""The mask of a dropout, flat, with the samples of a row of it, and the first one of a chunk."""


@inner_kernel
def corner(images: Any, chunk: Chunk) -> int:
    """Return where a chunk of images begins in memory, with the zeros around them."""
    own = chunk[0] * images.channels * images.tall * images.wide
    place: int = (images.start * chunk[2] + own) * LANES
    return place


@inner_kernel
def row_start(images: Any, chunk: Chunk, channel: int, number: int) -> int:
    """Return where a row of a channel begins."""
    line = (channel * images.tall + number) * images.wide + images.first
    place: int = corner(images, chunk) + line * LANES
    return place
