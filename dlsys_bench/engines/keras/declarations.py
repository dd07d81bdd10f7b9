"""What the Keras engines declare to lack, and what they compute less exactly."""

from __future__ import annotations

from dlsys_bench.spec.clipping import CLIPS
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import MultiHeadAttention
from dlsys_bench.spec.optimizers import Adam

SINGLE = 1e-6
"""The tolerance for constants in single precision: 64 times their rounding error."""

CORRECTED = 1e-4
"""That for bias corrections such as 1 - 0.999, whose relative error is a thousand times that of the
beta."""

SINGLE_RATE = "Keras keeps learning rates in single precision"
SINGLE_BETAS = "Keras takes Adam's bias correction from betas in single precision"

SINGLE_SLOPE = "TensorFlow takes the slope of leaky ReLU in single precision"

MISREADS = (
    "of one channel, where strides leave columns over, TensorFlow's oneDNN misreads memory in "
    "single precision"
)


SINGLE_GELU = "TensorFlow takes the constants of gelu in single precision"

SINGLE_SCALE = (
    "TensorFlow takes the scale of attention in single precision, because "
    "tf.cast(0.1, 'float64') is 0.10000000149"
)

ATTENTION = (
    *(
        f"{rung}/{size}{name}"
        for rung in ("forward", "gradient")
        for size in ("", "large-")
        for name in MultiHeadAttention.variants
    ),
    "forward/causal_attention-far",
    "forward/multi_head_attention-after-float32",
    "gradient/multi_head_attention-of-unlike-samples",
    "gradient/cross_attention-of-long-context",
    "gradient/cross_attention-of-short-context",
)
"""The checks of the values of attention."""

KINDS = ("", "kinds-")
"""The prefixes of the checks of a part of a recipe: of few tensors, and of tensors of all kinds."""

BY_OPTIMIZER = ("step/", "step/large-", "schedule/", "trajectory/again-")
"""The beginnings of the names of checks, one of which there is for each variant of an
optimiser."""

CLIPPED = tuple(name for clip in CLIPS.values() for name in clip.variants)

OCCURRENCES = (
    "TensorFlow's gradient of an embedding lists every occurrence of a token, and Keras's Adam and "
    "RMSprop square each by itself instead of their sum"
)


FIXED_FACTORS = "Keras's LossScaleOptimizer always doubles and halves its scale"

ZERO_AVERAGE = (
    "the moving averages of Keras start as zeros, which it gives to the network if all updates of "
    "the first epoch are skipped"
)

LACKS = {
    "loss_scale:factors": FIXED_FACTORS,
    "state/loss_scale-average": ZERO_AVERAGE,
}
"""What Keras lacks on every backend, with the reason."""

TENSORFLOW_LACKS = LACKS | {
    **dict.fromkeys(
        ("forward/conv2d@float32", "gradient/conv2d@float32", "trajectory/fit-conv2d@float32"),
        MISREADS,
    ),
    "state/smallest-embedding-of-one-token": OCCURRENCES,
}

LOOSENS = {
    "forward/far": (SINGLE, f"{SINGLE_SLOPE}, and {SINGLE_GELU}"),
    **dict.fromkeys(
        (
            *("forward/gelu", "forward/gelu_tanh", "gradient/gelu", "gradient/gelu_tanh"),
            *("forward/large-gelu", "forward/large-gelu_tanh"),
            *("gradient/large-gelu", "gradient/large-gelu_tanh"),
        ),
        (SINGLE, SINGLE_GELU),
    ),
    # The layers around those that the check is about are drawn from all.
    **dict.fromkeys(
        (
            f"{rung}/{name}"
            for rung in ("forward", "gradient")
            for name in ("network", "inputs", "add", "concat")
        ),
        (SINGLE, f"{SINGLE_GELU}, and {SINGLE_SCALE}"),
    ),
    **dict.fromkeys(ATTENTION, (SINGLE, SINGLE_SCALE)),
    **dict.fromkeys(("step", "state", "schedule"), (SINGLE, SINGLE_RATE)),
    "trajectory": (SINGLE, f"{SINGLE_RATE}, and {SINGLE_BETAS}"),
    **dict.fromkeys(
        (
            *(f"{check}{name}" for check in BY_OPTIMIZER for name in Adam.all_variants()),
            *("step/tensors-130", "state/optimizer", "step/average"),
            *(f"step/{kinds}decay-{name}" for kinds in KINDS for name in WeightDecay.variants),
            *(f"step/{kinds}{name}" for kinds in KINDS for name in CLIPPED),
            *("step/kinds-average", "step/kinds-accumulate-2", "step/kinds-accumulate-9"),
            "step/kinds-loss_scale",
            *("trajectory/mlp", "trajectory/mlp-dropout-batch_norm", "trajectory/native"),
            "trajectory/again-otherwise",
        ),
        (CORRECTED, SINGLE_BETAS),
    ),
}
"""What Keras computes less exactly: the tolerance, and the reason."""
