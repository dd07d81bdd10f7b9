"""Write reports/conformance/README.md from the compliance reports beside it, each of which is made
by `dlsys-bench conform --engine NAME --output reports/conformance`."""

from __future__ import annotations

from pathlib import Path

from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.conformance.result import Status
from dlsys_bench.report.table import Markdown, Table

REPORTS = Path(__file__).parents[2] / "reports" / "conformance"


def engines() -> Table:
    """One row per compliance report."""
    rows = []
    for path in sorted(REPORTS.glob("*.json")):
        if '"outcomes"' not in path.read_text(encoding="utf-8"):
            continue
        found = Compliance.read(path)
        counts = found.counts()
        looser = sum(o.status is Status.PASSED and o.reason is not None for o in found.results)
        rows.append(
            (
                Markdown(f"[{found.engine.partition(':')[0]}]({path.stem}.md)"),
                *(str(counts[status]) for status in Status),
                str(looser),
                f"{found.seconds:.0f}",
            )
        )
    heads = (
        "engine",
        *(f">{status}" for status in Status),
        ">passed with a wider tolerance",
        ">seconds",
    )
    return Table("Engines", heads, rows)


HEAD = """# Conformance: healthy engines pass, broken ones fail

`NAME.md` and `NAME.json` are the compliance reports of the engines, written by
`dlsys-bench conform --engine NAME --output reports/conformance`. `mutants.md` shows the rung that
detects each broken engine; `python -m mutants`, run in `tests/`, writes it. `mutants-float32.md`
shows the same for engines that are broken only in float32, and `python -m mutants --single
--resume` writes it. Each report names its commit. The times of numpy, torch, numba and Keras are
those of two cores, two checks at a time, numba with its functions compiled before; the others were
measured beside other work. The table of mutants contains those that existed when it was written; a
test verifies for each newer one that its recorded check detects it. The reports are of a ladder
with 1,266 checks; that of Keras on JAX is of one with 1,202 (605 in its one dtype), and that of
tinygrad of one with 165.
"""

EXCEPTIONS = """The report of an engine lists its declared exceptions with their reasons. Two
conventions differ (Keras has no dampening), and an engine may support only one dtype; the other
exceptions are properties of the frameworks, each of which a few lines reproduce:

```python
# oneDNN, which torch 2.13 and TensorFlow 2.21 use for convolutions in single precision, is wrong
# for images of one channel, channel last, and a stride that leaves columns over: [45, 83, 189, 211]
# instead of [45, 81, 189, 225], and other numbers each time. The torch engine keeps its images
# channel first; TensorFlow does not support that layout on a CPU.
images = torch.arange(32.0).reshape(2, 4, 4, 1).permute(0, 3, 1, 2)
print(torch.nn.functional.conv2d(images, torch.ones(1, 1, 3, 3), stride=(1, 2)).flatten())

# Keras 3.15 keeps learning rates in single precision for weights of any dtype: -1.5e-9, not 0.
weight = keras.Variable(numpy.zeros(1), dtype="float64")
keras.optimizers.SGD(0.1).apply([keras.ops.convert_to_tensor(numpy.ones(1))], [weight])
print(float(weight[0]) + 0.1)

# On TensorFlow, the bias correction of Adam uses betas in single precision: the first step of size
# 0.1 has an error of 6.7e-7.
weight = keras.Variable(numpy.zeros(1), dtype="float64")
adam = keras.optimizers.Adam(learning_rate=0.1, epsilon=0.0)
adam.apply([keras.ops.convert_to_tensor(numpy.ones(1))], [weight])
print(float(weight[0]) + 0.1)

# On TensorFlow, Keras 3.15 takes the first axis of biases of shape (3, 1) for the second of the
# values if that has the same size: [1, 1, 1], not [1, 2, 3]. These are the biases of attention with
# three heads of one value, in sequences of three positions; the Keras engine adds them itself.
biases = numpy.array([[1.0], [2.0], [3.0]])
print(keras.ops.add(numpy.zeros((1, 3, 3, 1)), biases)[0, 0, :, 0])

# The first step of Adam has the same error in tinygrad 0.14 with OPTIM_DTYPE=float64: 6.7e-7.
weight = Tensor(numpy.zeros(1)).is_param_(True)
adam = nn.optim.Adam([weight], lr=0.1, eps=0.0)
with Context(TRAINING=1):
    weight.sum().backward()
    adam.step()
print(weight.item() + 0.1)

# The max pool of tinygrad divides the gradient among equal values, whereas torch and Keras give it
# to the first: [[[[0.5, 0.5]]]].
x = Tensor(numpy.ones((1, 1, 1, 2)))
print(x.max_pool2d((1, 2)).sum().gradient(x)[0].tolist())
```

A healthy engine must not fail, whatever examples are drawn, and however busy the machine is.
`healthy-climbs.md` counts climbs with different seeds, on idle and on loaded machines;
`benchmarks/experiments/healthy_climbs.py` makes it. `healthy.jsonl` holds climbs of an earlier
version, with 165 checks: none of 50 of numpy, 5 of numba and 4 of jax failed; one of 5 of torch and
one of 5 of Keras met the error of oneDNN above. Since then the torch engine uses another layout,
and Keras declares the checks of such convolutions. Each climb that failed since led to a
correction: of torch at 5216905 (an example whose figures grow with its rounding errors) and at
6a01904 (layer norm of two channels), of torch at d0082fe (the bias of keys), of numpy at 30ea9db
(terms that cancel), of Keras at 9585e53, which found the biases of attention above, and three of
Keras at 2df7798 (trainings that amplify the error of a learning rate in single precision). All but
that of the biases were examples or tolerances of the checks. `tolerances.md` shows how close the
differences of healthy engines come to the tolerances (`benchmarks/experiments/tolerances.py`);
`SingleConstants` of `tests/conformance/single_constants.py` is numpy with constants in single
precision, which failed the same checks as Keras with the same seeds.
"""


def main() -> None:
    """Write the README of the folder."""
    text = "\n".join([HEAD, engines().markdown(), EXCEPTIONS])
    (REPORTS / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
