"""A batch norm and the average pool after it, computed in one rule.

The mean of a window of normalised values is the normalised mean of the window. The pool can
therefore come first, and only the moments and dx need all values: the rest is computed on the
output of the pool, which in LeNet-5 has a quarter of them.
"""

from __future__ import annotations

import numpy as np

from dlsys_bench.engines.numba.kernel import kernel
from dlsys_bench.engines.numba.normalization import FusedBatchNormRule, flat_rows
from dlsys_bench.engines.numba.pooling import FusedAveragePoolRule, flat_images
from dlsys_bench.engines.numpy.rule import LayerRule
from dlsys_bench.engines.numpy.shards import ShardPass, run_whole
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.layers import BatchNorm, IntPair


@kernel
def norm_pool_dx(
    dy: Array,
    x: Array,
    size: IntPair,
    statistics: tuple[Array, Array, Array, Array],
    samples: float,
    dx: Array,
) -> None:
    """Compute dx (G, H, W, N) from dy (G, H', W', N) in training, for windows that do not overlap.

    The statistics are the moments (2, C or R C), the inverse standard deviations, gamma, and the
    sums of `normal_sums`; `samples` is the number of values per channel.
    """
    moments, inverse, gamma, sums = statistics
    share, part = dy.dtype.type(1.0 / samples), dy.dtype.type(1.0 / (size[0] * size[1]))
    for g in range(dy.shape[0]):
        own = g % inverse.size
        middle, times = moments[0, own], gamma[g] * inverse[own]
        slope, less, each = (
            times * inverse[own] * sums[0, g] * share,
            times * sums[1, g] * share,
            times * part,
        )
        for i in range(dy.shape[1]):
            for a in range(size[0]):
                for j in range(dy.shape[2]):
                    back = dy[g, i, j]
                    for b in range(size[1]):
                        h, w = i * size[0] + a, j * size[1] + b
                        target, source = dx[g, h, w], x[g, h, w]
                        for n in range(dy.shape[3]):
                            target[n] = each * back[n] - slope * (source[n] - middle) - less


class NormPoolRule(LayerRule[BatchNorm]):
    """The rule of a batch norm and a pool whose windows divide the image without overlap."""

    exchanges = True

    def __init__(self, norm: FusedBatchNormRule, pool: FusedAveragePoolRule) -> None:
        super().__init__(norm.layer, norm.shapes, norm.tensors, norm.gradients)
        self.norm, self.pool = norm, pool

    def forward(self, x: Array, training: bool) -> Array:
        """Compute y from x."""
        if training:
            return run_whole(self.forward_shard(x))
        self.whole: Array | None = None
        return self.pool.forward(self.norm.forward(x, training=False), training=False)

    def forward_shard(self, x: Array) -> ShardPass[Array]:
        """Compute y of one shard."""
        self.whole = np.ascontiguousarray(x)
        moments = yield from self.norm.shared_moments(flat_rows(self.whole), x.shape)
        left = self.pool.forward(self.whole, training=True)
        return self.norm.normalize(flat_rows(left), moments, left.shape)

    def backward(self, dy: Array, wants_dx: bool) -> Array | None:
        """Fill the gradients, and return dx if it is wanted."""
        if self.whole is not None:
            return run_whole(self.backward_shard(dy, wants_dx))
        between = self.pool.backward(dy, wants_dx=True)
        assert between is not None
        return self.norm.backward(between, wants_dx)

    def backward_shard(self, dy: Array, wants_dx: bool) -> ShardPass[Array | None]:
        """Fill the gradients with the part of one shard, and return its dx."""
        norm = self.norm
        total = yield from norm.shared_sums(flat_rows(dy), dy.shape)
        if not wants_dx:
            return None
        assert self.whole is not None
        dx = self.buffer("dx", (*dy.shape[:2], *self.whole.shape[2:]), dy.dtype)
        norm_pool_dx(
            flat_images(dy),
            flat_images(self.whole),
            self.pool.layer.pool_size,
            (norm.moments, norm.inverse, norm.tensors["gamma"].ravel(), total),
            float(norm.samples),
            flat_images(dx),
        )
        return dx


def norm_pool(first: LayerRule[BatchNorm], second: FusedAveragePoolRule) -> NormPoolRule | None:
    """Combine the two rules, or return None if the windows overlap or leave a rest."""
    (h, w, _), pool = second.shape, second.layer
    if pool.steps != pool.pool_size or h % pool.steps[0] or w % pool.steps[1]:
        return None
    assert isinstance(first, FusedBatchNormRule)
    return NormPoolRule(first, second)
