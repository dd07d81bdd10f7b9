"""Dense layers, flattening and activations, in the forward and the backward pass."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "dense_kernel_transposed_when_square",
        "A dense kernel that is square is applied transposed.",
        "forward/dense",
        "dense",
        "np.matmul(kernel.swapaxes(1, 2), x, out=y)",
        "np.matmul(kernel if kernel.shape[1] == kernel.shape[2] else kernel.swapaxes(1, 2), x, "
        "out=y)",
    ),
    Mutant(
        "dense_float16",
        "In float32, a dense layer multiplies in float16.",
        "forward/dense@float32",
        "dense",
        "np.matmul(kernel.swapaxes(1, 2), x, out=y)",
        "if x.dtype == np.float32:\n"
        "            kernel, x = kernel.astype(np.float16).astype(x.dtype), "
        "x.astype(np.float16).astype(x.dtype)\n"
        "        np.matmul(kernel.swapaxes(1, 2), x, out=y)",
    ),
    Mutant(
        "dense_in_single_precision",
        "The product of a dense layer in float64 is rounded to float32.",
        "forward/dense",
        "dense",
        "np.matmul(kernel.swapaxes(1, 2), x, out=y)",
        "y[...] = kernel.swapaxes(1, 2).astype(np.float32) @ x.astype(np.float32)",
        only="float64",
    ),
    Mutant(
        "dense_bias_gradient_wrong_axis",
        "The gradient of a dense bias is summed over the units instead of the samples.",
        "gradient/dense",
        "dense",
        'np.add.reduce(dy, axis=-1, out=self.gradients["bias"])',
        'self.gradients["bias"][...] = np.resize(dy.sum(axis=1), self.gradients["bias"].shape)',
    ),
    Mutant(
        "dense_dx_of_magnitudes",
        "dx uses the absolute values of the kernel.",
        "gradient/dense",
        "dense",
        "np.matmul(kernel, dy, out=dx)",
        "np.matmul(np.abs(kernel), dy, out=dx)",
    ),
    Mutant(
        "flatten_channel_first",
        "Images are flattened channel first.",
        "forward/flatten",
        "dense",
        "np.copyto(y, np.moveaxis(x, 1, -2))",
        "np.copyto(y, x.reshape(y.shape))",
    ),
    Mutant(
        "flatten_gradient_channel_first",
        "The gradient of a flatten is reshaped channel first.",
        "gradient/flatten",
        "dense",
        "np.moveaxis(dy.reshape(r, *places, c, n), -2, 1)",
        "dy.reshape(dx.shape)",
    ),
    Mutant(
        "sigmoid_derivative",
        "The derivative of a sigmoid is taken as its square.",
        "gradient/sigmoid",
        "activation",
        "np.subtract(1, y, out=dx)",
        "np.copyto(dx, y)",
    ),
    Mutant(
        "tanh_derivative",
        "The derivative of a tanh is taken as 1 - y.",
        "gradient/tanh",
        "activation",
        "np.multiply(y, y, out=dx)",
        "np.copyto(dx, y)",
    ),
    Mutant(
        "sigmoid_overflows",
        "A sigmoid is computed as exp(x) / (1 + exp(x)), which is NaN for large inputs.",
        "forward/far",
        "activation",
        "    np.multiply(x, x.dtype.type(0.5), out=y)\n    np.tanh(y, out=y)\n    y += 1\n    y *= "
        "x.dtype.type(0.5)",
        "    np.exp(x, out=y)\n    y /= 1 + y",
    ),
    Mutant(
        "leaky_relu_slope_fixed",
        "The slope of a leaky relu is 0.01, whatever the layer states.",
        "forward/leaky_relu",
        "activation",
        "np.multiply(x, x.dtype.type(slope), out=y)",
        "np.multiply(x, x.dtype.type(0.01), out=y)",
    ),
    Mutant(
        "leaky_relu_gradient_of_relu",
        "The gradient of a leaky relu is zero below zero.",
        "gradient/leaky_relu",
        "activation",
        "np.multiply(dy, dy.dtype.type(slope), out=dx)",
        "dx.fill(0)",
    ),
    Mutant(
        "softmax_axis",
        "A softmax is normalised over the batch.",
        "forward/softmax",
        "activation",
        "y /= y.sum(axis=1, keepdims=True)",
        "y /= y.sum(axis=-1, keepdims=True)",
    ),
    Mutant(
        "softmax_overflows",
        "A softmax does not subtract the largest input, and is NaN for large inputs.",
        "forward/far",
        "activation",
        "np.subtract(x, x.max(axis=1, keepdims=True), out=y)",
        "np.copyto(y, x)",
    ),
    Mutant(
        "softmax_gradient_diagonal",
        "Only the diagonal of a softmax's derivative is used.",
        "gradient/softmax",
        "activation",
        "np.subtract(dy, dx.sum(axis=1, keepdims=True), out=dx)",
        "np.subtract(dy, dx, out=dx)",
    ),
)
