"""Healthy engines through the ladder with seed after seed: a right engine must never fail. Goes on
where it stopped.

python reports/conformance/measure.py numpy 50      # healthy.jsonl: one line a run
python reports/conformance/measure.py report        # README.md
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.conformance.result import Status
from dlsys_bench.report.table import Table

HERE = Path(__file__).parent
RUNS = HERE / "healthy.jsonl"


def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RUNS.read_text().splitlines()] if RUNS.exists() else []


def measure(engine: str, runs: int) -> None:
    known = {(run["engine"], run["seed"]) for run in lines()}
    for seed in range(1, runs + 1):
        if (engine, seed) in known:
            continue
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "dlsys_bench",
                "conform",
                "--engine",
                engine,
                "--seed",
                str(seed),
                "--json",
            ],
            capture_output=True,
            text=True,
        )
        report = json.loads(done.stdout)
        failed = [result for result in report["outcomes"] if result["status"] == "failed"]
        kept = {name: report[name] for name in ("engine", "seed", "conforms", "seconds", "counts")}
        kept["drawn"] = sum(result.get("drawn", 0) for result in report["outcomes"])
        with RUNS.open("a") as file:
            file.write(
                json.dumps(kept | {"failed": failed, "provenance": report["provenance"]}) + "\n"
            )
        print(engine, seed, report["conforms"], report["seconds"], flush=True)


def healthy() -> Table:
    """Every engine again and again."""
    rows = []
    for engine in dict.fromkeys(run["engine"] for run in lines()):
        mine = [run for run in lines() if run["engine"] == engine]
        broken = sum(not run["conforms"] for run in mine)
        most = binomtest(broken, len(mine)).proportion_ci(0.95, "exact").high
        seconds = sorted(run["seconds"] for run in mine)
        rows.append(
            (
                engine,
                str(len(mine)),
                str(broken),
                f"{most:.3f}",
                f"{sum(run['drawn'] for run in mine):,}",
                f"{seconds[0]:.0f}, {seconds[len(seconds) // 2]:.0f}, {seconds[-1]:.0f}",
            )
        )
    heads = (
        "engine",
        ">runs",
        ">failed",
        ">at most (95%)",
        ">examples",
        ">seconds: least, median, most",
    )
    return Table("Healthy engines, another seed each run", heads, rows)


def engines() -> Table:
    """The compliance reports in this folder, a line each."""
    rows = []
    for path in sorted(HERE.glob("*.json")):
        if path.stem == "mutants":
            continue
        found = Compliance.read(path)
        counts = found.counts()
        looser = sum(o.status is Status.PASSED and o.reason is not None for o in found.results)
        rows.append(
            (
                f"[{found.engine.partition(':')[0]}]({path.stem}.md)",
                *(str(counts[status]) for status in Status),
                str(looser),
                f"{found.seconds:.0f}",
            )
        )
    heads = (
        "engine",
        *(f">{status}" for status in Status),
        ">of the passed, less exact",
        ">seconds",
    )
    return Table("Engines", heads, rows)


def report() -> None:
    text = "\n".join([HEAD, engines().markdown(), EXCEPTIONS, healthy().markdown()])
    (HERE / "README.md").write_text(text, encoding="utf-8")


HEAD = """# Does the ladder touch what is healthy, and catch what is not?

`NAME.md` and `NAME.json` are the compliance reports of the engines, by `dlsys-bench conform --engine NAME --output
reports/conformance`; `mutants.md` says which rung catches which broken engine, by
`python -m mutants` (in parts: thirteen of its rows are later than the rest). Most times are of
two cores that did other work too; alone, at 144 checks: numpy 13 s, torch 16, keras 81, jax 139, tinygrad 177,
keras-jax 218.
"""

EXCEPTIONS = """What an engine declares stands in its report with the reason. Two conventions differ (Keras knows no
dampening), an engine may have one dtype only; the rest are the frameworks' own ways, each in a few lines:

```python
# With oneDNN, which torch 2.13 and TensorFlow 2.21 convolve with in single precision: images of one
# channel, channel last, a stride that leaves columns over. [45, 83, 189, 211], where [45, 81, 189,
# 225] is right (and other numbers each time). The torch engine lays its images out channel first;
# TensorFlow's cannot be.
images = torch.arange(32.0).reshape(2, 4, 4, 1).permute(0, 3, 1, 2)
print(torch.nn.functional.conv2d(images, torch.ones(1, 1, 3, 3), stride=(1, 2)).flatten())

# Keras 3.15 keeps a learning rate in single precision, whatever the weight has: -1.5e-9 where 0 is
# right.
weight = keras.Variable(numpy.zeros(1), dtype="float64")
keras.optimizers.SGD(0.1).apply([keras.ops.convert_to_tensor(numpy.ones(1))], [weight])
print(float(weight[0]) + 0.1)

# On TensorFlow, Adam's bias correction has betas in single precision: 6.7e-7 where the first step's
# size is 0.1.
weight = keras.Variable(numpy.zeros(1), dtype="float64")
adam = keras.optimizers.Adam(learning_rate=0.1, epsilon=0.0)
adam.apply([keras.ops.convert_to_tensor(numpy.ones(1))], [weight])
print(float(weight[0]) + 0.1)

# tinygrad 0.14 has them so too, with OPTIM_DTYPE=float64: 6.7e-7.
weight = Tensor(numpy.zeros(1)).is_param_(True)
adam = nn.optim.Adam([weight], lr=0.1, eps=0.0)
with Context(TRAINING=1):
    weight.sum().backward()
    adam.step()
print(weight.item() + 0.1)

# tinygrad's max pool shares the gradient among equals, where torch and Keras give it to the first:
# [[[[0.5, 0.5]]]].
x = Tensor(numpy.ones((1, 1, 1, 2)))
print(x.max_pool2d((1, 2)).sum().gradient(x)[0].tolist())
```

A healthy engine must not fail, whatever is drawn. Again and again, each run with examples of its own, by `measure.py`.
One failure of torch and one of Keras are no false alarms: seed 3 met the convolution of oneDNN above. Since then the
torch engine lays its images out otherwise, Keras declares the check, and 21 checks more came in.
"""

if __name__ == "__main__":
    if sys.argv[1] == "report":
        report()
    else:
        measure(sys.argv[1], int(sys.argv[2]))
