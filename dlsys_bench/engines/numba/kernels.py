"""Compiled loops. Each goes once over memory, lets other threads in, and takes arrays in one piece.

G stands for replicas times channels, M for all that belongs to a channel. Numbers come in the dtype of the arrays:
a Python float among single-precision arrays would widen every step of a loop. What an inner loop walks over is a row
of its own with an index from zero: an index that is computed might be negative, and such a loop does not go in vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from dlsys_bench.plan import Array
from dlsys_bench.spec.layers import Pair

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile at the first call, once for all processes. Sums may be taken in any order, so that they go in vectors;
    what is no number stays none."""
    fast = {"contract", "reassoc", "arcp", "nsz"}
    compiled: F = numba.njit(function, nogil=True, cache=True, error_model="numpy", fastmath=fast)
    return compiled


@kernel
def moments(x: Array, found: Array) -> None:
    """The mean of each row of x (G, M), and the mean of the squares about it, as `found` (2, G)."""
    zero, share = x.dtype.type(0), x.dtype.type(1.0 / x.shape[1])
    for g in range(x.shape[0]):
        total = zero
        for m in range(x.shape[1]):
            total += x[g, m]
        middle = total * share
        square = zero
        for m in range(x.shape[1]):
            off = x[g, m] - middle
            square += off * off
        found[0, g], found[1, g] = middle, square * share


@kernel
def pooled(parts: Array, counts: Array, found: Array) -> None:
    """The moments (2, G) of so many shards (S, 2, G), each of so many samples, as one. Chan, Golub & LeVeque 1979."""
    total = counts.sum()
    for g in range(found.shape[1]):
        mean, variance = found.dtype.type(0), found.dtype.type(0)
        for s in range(len(counts)):
            mean += counts[s] / total * parts[s, 0, g]
        for s in range(len(counts)):
            off = parts[s, 0, g] - mean
            variance += counts[s] / total * (parts[s, 1, g] + off * off)
        found[0, g], found[1, g] = mean, variance


@kernel
def normalised(x: Array, moments: Array, gamma: Array, beta: Array, epsilon: float, inverse: Array, y: Array) -> None:
    """Gamma (x - mean) inverse + beta, row by row, and the inverse of the spread. X and its moments are by C or R C."""
    rows, one, plus = x.shape[0], x.dtype.type(1), x.dtype.type(epsilon)
    for g in range(inverse.size):
        inverse[g] = one / np.sqrt(moments[1, g] + plus)
    for g in range(y.shape[0]):
        own = g % inverse.size
        middle, times, shift, row = moments[0, own], gamma[g] * inverse[own], beta[g], x[g % rows]
        for m in range(y.shape[1]):
            y[g, m] = (row[m] - middle) * times + shift


@kernel
def normal_sums(dy: Array, x: Array, moments: Array, inverse: Array, sums: Array) -> None:
    """The gradients of gamma and beta, as `sums` (2, G): of each row of dy, along what was normalised and by itself."""
    zero, rows = dy.dtype.type(0), x.shape[0]
    for g in range(dy.shape[0]):
        own = g % inverse.size
        middle, row = moments[0, own], x[g % rows]
        every, along = zero, zero
        for m in range(dy.shape[1]):
            every += dy[g, m]
            along += dy[g, m] * (row[m] - middle)
        sums[0, g], sums[1, g] = along * inverse[own], every


@kernel
def normal_dx(dy: Array, x: Array, moments: Array, inverse: Array, gamma: Array, sums: Array, samples: float) -> None:
    """What is passed back, in the place of dy, when the moments moved with so many samples a channel; with infinitely
    many they are fixed."""
    rows, share = x.shape[0], dy.dtype.type(1.0 / samples)
    for g in range(dy.shape[0]):
        own = g % inverse.size
        middle, row, times = moments[0, own], x[g % rows], gamma[g] * inverse[own]
        slope, less = times * inverse[own] * sums[0, g] * share, times * sums[1, g] * share
        for m in range(dy.shape[1]):
            dy[g, m] = times * dy[g, m] - slope * (row[m] - middle) - less


@kernel
def d_tanh(y: Array, dy: Array, slope: float) -> None:
    """Dy times 1 - y^2, in its place."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dy[i] *= one - y[i] * y[i]


@kernel
def d_sigmoid(y: Array, dy: Array, slope: float) -> None:
    """Dy times y (1 - y), in its place."""
    one = y.dtype.type(1)
    for i in range(y.size):
        dy[i] *= y[i] * (one - y[i])


@kernel
def d_leaky_relu(y: Array, dy: Array, slope: float) -> None:
    """Dy above zero, slope dy elsewhere, in its place."""
    times = y.dtype.type(slope)
    for i in range(y.size):
        dy[i] = dy[i] if y[i] > 0 else dy[i] * times


@kernel
def average(x: Array, size: Pair, steps: Pair, y: Array) -> None:
    """Y (G, H', W', N) = the mean of each window of x (G, H, W, N)."""
    part = y.dtype.type(1.0 / (size[0] * size[1]))
    for g in range(y.shape[0]):
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                mine = y[g, i, j]
                for n in range(y.shape[3]):
                    mine[n] = 0
                for a in range(size[0]):
                    for b in range(size[1]):
                        other = x[g, i * steps[0] + a, j * steps[1] + b]
                        for n in range(y.shape[3]):
                            mine[n] += other[n] * part


@kernel
def average_back(dy: Array, size: Pair, steps: Pair, dx: Array) -> None:
    """What each window passes back: all there is where windows lie side by side, else added to dx."""
    alone = size == steps
    part = dy.dtype.type(1.0 / (size[0] * size[1]))
    for g in range(dy.shape[0]):
        for i in range(dy.shape[1]):
            for j in range(dy.shape[2]):
                mine = dy[g, i, j]
                for a in range(size[0]):
                    for b in range(size[1]):
                        other = dx[g, i * steps[0] + a, j * steps[1] + b]
                        if alone:
                            for n in range(dy.shape[3]):
                                other[n] = mine[n] * part
                        else:
                            for n in range(dy.shape[3]):
                                other[n] += mine[n] * part


@kernel
def gather(x: Array, n: int, strides: Pair, windows: Array) -> None:
    """The windows (R, h, w, C, H', W' N) of padded images (R, C, H, W N)."""
    r_, h_, w_, c_, ho, wide = windows.shape
    # At a stride of one the windows of a row lie side by side: one long run instead of many short ones.
    run = wide if strides[1] == 1 else n
    for r in range(r_):
        for a in range(h_):
            for b in range(w_):
                for c in range(c_):
                    for i in range(ho):
                        whole, line = windows[r, a, b, c, i], x[r, c, i * strides[0] + a, b * n :]
                        for piece in range(wide // run):
                            target, source = whole[piece * run :], line[piece * strides[1] * n :]
                            for k in range(run):
                                target[k] = source[k]


@kernel
def scatter(windows: Array, n: int, strides: Pair, dx: Array) -> None:
    """Add to padded images (R, C, H, W N) what their windows (R, h, w, C, H', W' N) pass back."""
    r_, h_, w_, c_, ho, wide = windows.shape
    run = wide if strides[1] == 1 else n
    for r in range(r_):
        for a in range(h_):
            for b in range(w_):
                for c in range(c_):
                    for i in range(ho):
                        whole, line = windows[r, a, b, c, i], dx[r, c, i * strides[0] + a, b * n :]
                        for piece in range(wide // run):
                            source, target = whole[piece * run :], line[piece * strides[1] * n :]
                            for k in range(run):
                                target[k] += source[k]


@kernel
def convolve(x: Array, weights: Array, bias: Array, n: int, y: Array) -> None:
    """Y (R, F, H', W' N) of padded images (R, C, H, W N) and weights (R, h, 5, C, F), F even, at a stride of one.

    Two filters of five weights side by side at a time: ten products for every eight numbers read or written.
    """
    for r in range(y.shape[0]):
        for i in range(y.shape[2]):
            for f in range(0, y.shape[1] - 1, 2):
                one, two = y[r, f, i], y[r, f + 1, i]
                for k in range(one.size):
                    one[k] = bias[r, f]
                    two[k] = bias[r, f + 1]
                for c in range(x.shape[1]):
                    for a in range(weights.shape[1]):
                        line = x[r % x.shape[0], c, i + a]
                        x0, x1, x2, x3, x4 = line, line[n:], line[2 * n :], line[3 * n :], line[4 * n :]
                        v, w = weights[r, a, :, c, f], weights[r, a, :, c, f + 1]
                        v0, v1, v2, v3, v4 = v[0], v[1], v[2], v[3], v[4]
                        w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
                        for k in range(one.size):
                            one[k] += v0 * x0[k] + v1 * x1[k] + v2 * x2[k] + v3 * x3[k] + v4 * x4[k]
                            two[k] += w0 * x0[k] + w1 * x1[k] + w2 * x2[k] + w3 * x3[k] + w4 * x4[k]


@kernel
def d_weights(x: Array, dy: Array, n: int, d: Array) -> None:
    """The gradient (R, h, 5, C, F) of the weights of `convolve`."""
    zero = dy.dtype.type(0)
    d[:] = 0
    for r in range(dy.shape[0]):
        for i in range(dy.shape[2]):
            for c in range(x.shape[1]):
                for a in range(d.shape[1]):
                    line = x[r % x.shape[0], c, i + a]
                    x0, x1, x2, x3, x4 = line, line[n:], line[2 * n :], line[3 * n :], line[4 * n :]
                    for f in range(0, dy.shape[1] - 1, 2):
                        one, two = dy[r, f, i], dy[r, f + 1, i]
                        v0, v1, v2, v3, v4 = zero, zero, zero, zero, zero
                        w0, w1, w2, w3, w4 = zero, zero, zero, zero, zero
                        for k in range(one.size):
                            v0 += one[k] * x0[k]
                            v1 += one[k] * x1[k]
                            v2 += one[k] * x2[k]
                            v3 += one[k] * x3[k]
                            v4 += one[k] * x4[k]
                            w0 += two[k] * x0[k]
                            w1 += two[k] * x1[k]
                            w2 += two[k] * x2[k]
                            w3 += two[k] * x3[k]
                            w4 += two[k] * x4[k]
                        v, w = d[r, a, :, c, f], d[r, a, :, c, f + 1]
                        v[0], v[1], v[2], v[3], v[4] = v[0] + v0, v[1] + v1, v[2] + v2, v[3] + v3, v[4] + v4
                        w[0], w[1], w[2], w[3], w[4] = w[0] + w0, w[1] + w1, w[2] + w2, w[3] + w3, w[4] + w4


@kernel
def d_images(dy: Array, weights: Array, n: int, lines: Array, dx: Array) -> None:
    """What `convolve` passes back to padded images, dx (R, C, H, W N). `lines` (F, W' N + 8 n) is for a row of dy with
    four samples' worth of nothing at either end."""
    wide = dy.shape[3]
    lines[:] = 0
    dx[:] = 0
    for r in range(dy.shape[0]):
        for i in range(dy.shape[2]):
            for f in range(dy.shape[1]):
                target, source = lines[f, 4 * n :], dy[r, f, i]
                for k in range(wide):
                    target[k] = source[k]
            for c in range(dx.shape[1]):
                for a in range(weights.shape[1]):
                    row = dx[r, c, i + a]
                    for f in range(0, dy.shape[1] - 1, 2):
                        y, z = lines[f], lines[f + 1]
                        y0, y1, y2, y3, y4 = y, y[n:], y[2 * n :], y[3 * n :], y[4 * n :]
                        z0, z1, z2, z3, z4 = z, z[n:], z[2 * n :], z[3 * n :], z[4 * n :]
                        v, w = weights[r, a, :, c, f], weights[r, a, :, c, f + 1]
                        v0, v1, v2, v3, v4 = v[4], v[3], v[2], v[1], v[0]
                        w0, w1, w2, w3, w4 = w[4], w[3], w[2], w[1], w[0]
                        for k in range(row.size):
                            row[k] += (
                                v0 * y0[k] + v1 * y1[k] + v2 * y2[k] + v3 * y3[k] + v4 * y4[k]
                                + w0 * z0[k] + w1 * z1[k] + w2 * z2[k] + w3 * z3[k] + w4 * z4[k]
                            )  # fmt: skip


@kernel
def row_sums(x: Array, sums: Array) -> None:
    """The sum of each row of x (G, M)."""
    zero = x.dtype.type(0)
    for g in range(x.shape[0]):
        total = zero
        for m in range(x.shape[1]):
            total += x[g, m]
        sums[g] = total


@kernel
def _mixed(key: np.uint64, place: int) -> np.uint64:
    z = np.uint64(key) + np.uint64(place + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def drop(x: Array, key: np.uint64, least: int, scale: float, stays: NDArray[np.bool_], y: Array) -> None:
    """Which of x stay, and x times `scale` where it stays: where a drawn number of 32 bits is at least `least`.

    The numbers are SplitMix64's (Steele, Lea & Flood 2014), two of each state; each state follows from its place, so a
    vector of them is made at once.
    """
    half, zero, times, bound = x.size // 2, x.dtype.type(0), x.dtype.type(scale), np.uint32(least)
    first, last = stays[:half], stays[x.size - half :]
    for i in range(half):
        z = _mixed(key, i)
        first[i] = np.uint32(z) >= bound
        last[i] = np.uint32(z >> np.uint64(32)) >= bound
    if x.size > 2 * half:
        stays[half] = np.uint32(_mixed(key, half)) >= bound
    for i in range(x.size):
        y[i] = x[i] * (times if stays[i] else zero)


@kernel
def drop_back(stays: NDArray[np.bool_], scale: float, dy: Array) -> None:
    """Dy times `scale` where x stayed, in its place."""
    zero, times = dy.dtype.type(0), dy.dtype.type(scale)
    for i in range(dy.size):
        dy[i] *= times if stays[i] else zero


@kernel
def cross_entropy(outputs: Array, labels: NDArray[Any], values: Array, d: Array, right: NDArray[Any]) -> None:
    """Softmax and its cross-entropy of outputs (R, K, N) with labels (R, N): the mean (R,), its gradient, and how many
    have their largest output, the first of equals, at the label."""
    r_, k_, n_ = outputs.shape
    zero = outputs.dtype.type(0)
    share = outputs.dtype.type(1.0 / n_)
    for r in range(r_):
        value, hit = zero, 0
        for n in range(n_):
            best = 0
            for k in range(1, k_):
                if outputs[r, k, n] > outputs[r, best, n]:
                    best = k
            top, label, total = outputs[r, best, n], labels[r, n], zero
            for k in range(k_):
                d[r, k, n] = np.exp(outputs[r, k, n] - top)
                total += d[r, k, n]
            value += np.log(total) - (outputs[r, label, n] - top)
            hit += best == label
            for k in range(k_):
                d[r, k, n] = d[r, k, n] / total * share
            d[r, label, n] -= share
        values[r], right[r] = value * share, hit


@kernel
def sgd(p: Array, g: Array, v: Array, rate: Array, momentum: float, new: float, by_rate: bool, nesterov: bool) -> None:
    """Stochastic gradient descent with a velocity; `new` is what the velocity takes of a gradient."""
    for r in range(p.shape[0]):
        step, keeps, takes = rate[r], p.dtype.type(momentum), p.dtype.type(new)
        if by_rate:
            for i in range(p.shape[1]):
                move = -step * g[r, i]
                v[r, i] = keeps * v[r, i] + move
                p[r, i] += keeps * v[r, i] + move if nesterov else v[r, i]
        else:
            for i in range(p.shape[1]):
                v[r, i] = keeps * v[r, i] + takes * g[r, i]
                p[r, i] -= step * (keeps * v[r, i] + g[r, i] if nesterov else v[r, i])


@kernel
def adam(
    p: Array, g: Array, m: Array, v: Array, rate: Array, beta_1: float, beta_2: float, root: float, epsilon: float
) -> None:
    """Adam: the rate has the mean's correction, `root` is what the root of the square is multiplied with."""
    one = 1.0
    keep_m, new_m = p.dtype.type(beta_1), p.dtype.type(one - beta_1)
    keep_v, new_v = p.dtype.type(beta_2), p.dtype.type(one - beta_2)
    times, plus = p.dtype.type(root), p.dtype.type(epsilon)
    for r in range(p.shape[0]):
        step = rate[r]
        for i in range(p.shape[1]):
            m[r, i] = keep_m * m[r, i] + new_m * g[r, i]
            v[r, i] = keep_v * v[r, i] + new_v * (g[r, i] * g[r, i])
            p[r, i] -= step * m[r, i] / (np.sqrt(v[r, i]) * times + plus)


@kernel
def rmsprop(p: Array, g: Array, v: Array, rate: Array, rho: float, epsilon: float, inside: bool) -> None:
    """RMSprop, with its epsilon inside the root or after it."""
    one = 1.0
    keep, new, plus = p.dtype.type(rho), p.dtype.type(one - rho), p.dtype.type(epsilon)
    for r in range(p.shape[0]):
        step = rate[r]
        for i in range(p.shape[1]):
            v[r, i] = keep * v[r, i] + new * (g[r, i] * g[r, i])
            root = np.sqrt(v[r, i] + plus) if inside else np.sqrt(v[r, i]) + plus
            p[r, i] -= step * g[r, i] / root
