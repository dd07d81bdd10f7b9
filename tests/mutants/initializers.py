"""The initialisers."""

from __future__ import annotations

from mutants.mutant import Mutant

_START = "net.load(Plan(seed).weights(model) if weights is None else weights)"


def _start(expression: str, *before: str) -> str:
    """`drawn` is what the engine draws of itself; the expression takes its place."""
    lines = [
        "drawn = Plan(seed).weights(model)",
        *before,
        f"net.load({expression} if weights is None else weights)",
    ]
    return "\n        ".join(lines)


MUTANTS = (
    Mutant(
        "glorot_of_fan_in",
        "Glorot's initialisers use the inputs twice instead of the inputs and the outputs.",
        "initializer/glorot_uniform",
        "engine",
        _START,
        _start(
            "drawn",
            "for t in model.tensors:",
            '    if "glorot" in t.initializer.kind:',
            "        drawn[t.name] = drawn[t.name] * (sum(t.fans) / (2 * t.fans.fan_in)) ** 0.5",
        ),
    ),
    Mutant(
        "he_without_window",
        "The fan of a convolution counts its channels without the window.",
        "initializer/he_uniform",
        "engine",
        _START,
        _start(
            "drawn",
            "for t in model.tensors:",
            '    if "he_" in t.initializer.kind and len(t.shape) == 4:',
            "        drawn[t.name] = drawn[t.name] * (t.shape[0] * t.shape[1]) ** 0.5",
        ),
    ),
    Mutant(
        "normal_not_truncated",
        "A truncated normal is not truncated.",
        "initializer/glorot_normal",
        "engine",
        _START,
        _start(
            "drawn",
            "for t in model.tensors:",
            "    start = t.initializer.distribution(t.fans)",
            '    if start.family == "truncated_normal":',
            "        generator = np.random.default_rng(seed)",
            "        drawn[t.name] = generator.normal(0.0, start.stddev, t.shape)",
        ),
    ),
    Mutant(
        "uniform_for_normal",
        "Kernels are drawn from a uniform distribution of the right variance.",
        "initializer/normal",
        "engine",
        _START,
        _start(
            "drawn",
            "for t in model.tensors:",
            "    start = t.initializer.distribution(t.fans)",
            '    if start.family == "normal":',
            "        wide = 3**0.5 * start.stddev",
            "        drawn[t.name] = np.random.default_rng(seed).uniform(-wide, wide, t.shape)",
        ),
    ),
    Mutant(
        "bias_starts_at_a_tenth",
        "Biases start at 0.1.",
        "initializer/zeros",
        "engine",
        _START,
        _start('{name: w + 0.1 * name.endswith("bias") for name, w in drawn.items()}'),
    ),
    Mutant(
        "moving_variance_starts_at_zero",
        "The moving variance of a batch norm starts at zero.",
        "initializer/zeros",
        "engine",
        _START,
        _start('{name: w * (not name.endswith("moving_variance")) for name, w in drawn.items()}'),
    ),
    Mutant(
        "weights_ignore_the_seed",
        "Every seed draws the same weights.",
        "initializer/seeds",
        "engine",
        _START,
        "net.load(Plan(0).weights(model) if weights is None else weights)",
    ),
    Mutant(
        "tensors_share_a_draw",
        "Kernels of one shape start with equal values.",
        "initializer/zeros",
        "engine",
        _START,
        _start(
            "{t.name: drawn[next(o.name for o in model.tensors if o.shape == t.shape)] for t in "
            "model.tensors}"
        ),
    ),
    Mutant(
        "attention_starts_packed",
        "The kernels of query, key and value have the fans of one kernel.",
        "initializer/tensors-of-multi_head_attention",
        "engine",
        _START,
        _start(
            "drawn",
            "for t in model.tensors:",
            '    if t.name.endswith(("query_kernel", "key_kernel", "value_kernel")):',
            "        drawn[t.name] = drawn[t.name] / 2**0.5",
        ),
    ),
    Mutant(
        "gamma_of_samples_starts_at_zero",
        "The gamma of all norms but batch norm starts at zero.",
        "initializer/tensors-of-layer_norm",
        "engine",
        _START,
        _start(
            '{n: w * (not n.endswith("gamma") or n.startswith("batch")) for n, w in drawn.items()}'
        ),
    ),
    Mutant(
        "layers_draw_with_one_key",
        "All tensors of a layer are drawn with one key.",
        "initializer/tensors-of-dense",
        "engine",
        _START,
        _start(
            "drawn",
            "from dlsys_bench.engines.plan import draw",
            "for t in model.tensors:",
            '    key = seed, list(model.names).index(t.name.partition(".")[0])',
            "    start = t.initializer.distribution(t.fans)",
            "    drawn[t.name] = draw(start, t.shape, np.random.default_rng(key))",
        ),
    ),
)
