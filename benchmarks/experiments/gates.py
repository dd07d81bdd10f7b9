"""Real gates, healthy and damaged: how often they fail. Writes verdicts as they end and goes on
where it stopped.

    python reports/gates/measure.py healthy     # reports/gates/healthy.jsonl: 210 gates of the
    numpy engine python reports/gates/measure.py damaged     # reports/gates/damaged.jsonl: 5 gates
    each of four damaged engines python reports/gates/measure.py report      #
    reports/gates/README.md

Every gate has seeds of its own, at alpha 1e-3 and beta 1e-2. The shift of a damaged engine is
measured first, with 12 seeds that no gate uses.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from dlsys_bench.data import Samples
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.report.table import Table
from dlsys_bench.report.tables import comparison_table
from dlsys_bench.runs.run import choose_dataset, run
from dlsys_bench.runs.store import read
from dlsys_bench.studies.registry import find
from dlsys_bench.verdicts.compare import Relation, compare
from dlsys_bench.verdicts.gate import Terms, gate, gate_for, value_of

HERE = Path(__file__).parent
# Cheap arms of several kinds: dense and convolutional, with batch norm and dropout, on three
# datasets.
HEALTHY = [
    ("regularization/fashion/ffn", "fashion_mnist"),
    ("regularization/fashion-mlp/vanilla", "fashion_mnist"),
    ("regularization/fashion-mlp/bn", "fashion_mnist"),
    ("regularization/fashion-mlp/bn+dropout", "fashion_mnist"),
    ("regularization/lenet5-tanh/standard+bn", "mnist"),
    ("regularization/lenet5-tanh/dropout", "mnist"),
    ("regularization/lenet5-sigmoid/standard+bn", "mnist"),
    ("regularization/fashion-mlp/vanilla", "digits"),
    ("regularization/fashion-mlp/dropout", "digits"),
    ("regularization/lenet5-tanh/bn+bn", "digits"),
]
GATES_OF_AN_ARM, GATES_OF_A_DAMAGE, MEASURED = 21, 5, 12
DAMAGED = [
    ("regularization/lenet5-tanh/standard+bn", "mnist"),
    ("regularization/fashion-mlp/bn", "fashion_mnist"),
]


class LabelNoise(NumpyEngine):
    """A quarter of the labels are drawn at random."""

    name = "label-noise"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        generator = np.random.default_rng(plan.seed)
        wrong = generator.random(len(samples.y)) < 0.25
        y = np.where(wrong, generator.integers(0, 10, len(samples.y)), samples.y)
        return super().fit(net, Samples(samples.x, y), recipe, plan)


class HalvedRate(NumpyEngine):
    """The learning rate is half of what the recipe says."""

    name = "halved-rate"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        optimizer = replace(recipe.optimizer, learning_rate=recipe.optimizer.learning_rate / 2)
        return super().fit(net, samples, replace(recipe, optimizer=optimizer), plan)


class FrozenStatistics(NumpyEngine):
    """The moving statistics of batch norm stay where they began."""

    name = "frozen-statistics"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        began = net.state.copy()
        for epoch in super().fit(net, samples, recipe, plan):
            net.state[...] = began
            yield epoch


class OneClassDropped(NumpyEngine):
    """No sample of the last class is trained on."""

    name = "one-class-dropped"

    def fit(self, net: Any, samples: Samples, recipe: Any, plan: Any) -> Any:
        kept = samples.y != 9
        return super().fit(net, Samples(samples.x[kept], samples.y[kept]), recipe, plan)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(path: Path, values: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
    print(
        path.name,
        values.get("engine"),
        values.get("study"),
        values.get("arm"),
        values.get("outcome"),
        flush=True,
    )


def healthy() -> None:
    path = HERE / "healthy.jsonl"
    known = {(v["study"], v["arm"], v["dataset"], v["first_seed"]) for v in lines(path)}
    engine = NumpyEngine()
    for number in range(GATES_OF_AN_ARM):
        for name, dataset in HEALTHY:
            (case,) = find(name)
            first = 20_000 + 100 * number
            if (case.study.name, case.arm.name, dataset, first) in known:
                continue
            data, _ = choose_dataset(case, dataset, None)
            found = gate(case, engine, data, tier="quick", terms=Terms(first_seed=first))
            add(path, found.to_dict() | {"first_seed": first})


def damaged() -> None:
    path = HERE / "damaged.jsonl"
    known = {(v["engine"], v["study"], v["arm"], v["first_seed"]) for v in lines(path)}
    for make in (LabelNoise, HalvedRate, FrozenStatistics, OneClassDropped):
        for name, dataset in DAMAGED:
            engine, (case,) = make(), find(name)
            engine.origin = f"measure:{make.__name__}"
            data, _ = choose_dataset(case, dataset, None)
            terms = Terms()
            sequential, stored = gate_for(case, data, "quick", terms)
            metric = case.study.metric
            if (engine.name, case.study.name, case.arm.name, 40_000) not in known:
                runs = [
                    run(case, engine, data, tier="quick", seed=40_000 + seed)
                    for seed in range(MEASURED)
                ]
                values = [value_of(one, metric) for one in runs]
                shift = float(np.mean(values) - np.mean([value_of(one, metric) for one in stored]))
                add(
                    path,
                    {
                        "engine": engine.name,
                        "study": case.study.name,
                        "arm": case.arm.name,
                        "first_seed": 40_000,
                        "true_shift": shift,
                        "values": values,
                        "smallest_shift": sequential.shift,
                    },
                )
            for number in range(GATES_OF_A_DAMAGE):
                first = 50_000 + 100 * number
                if (engine.name, case.study.name, case.arm.name, first) not in known:
                    found = gate(
                        case, engine, data, tier="quick", terms=replace(terms, first_seed=first)
                    )
                    add(path, found.to_dict() | {"first_seed": first})


def report() -> None:
    well, ill = lines(HERE / "healthy.jsonl"), lines(HERE / "damaged.jsonl")
    failed = sum(v["outcome"] == "FAIL" for v in well)
    most = binomtest(failed, len(well)).proportion_ci(0.95, "exact").high
    heads = ["arm", "dataset", ">gates", ">PASS", ">INCONCLUSIVE", ">FAIL", ">seeds, median (mean)"]
    rows = []
    for key in dict.fromkeys((f"{v['study']}/{v['arm']}", v["dataset"]) for v in well):
        mine = [v for v in well if (f"{v['study']}/{v['arm']}", v["dataset"]) == key]
        counts = [
            str(sum(v["outcome"] == name for v in mine))
            for name in ("PASS", "INCONCLUSIVE", "FAIL")
        ]
        seeds = [len(v["seeds"]) for v in mine]
        rows.append(
            (*key, str(len(mine)), *counts, f"{np.median(seeds):.0f} ({np.mean(seeds):.1f})")
        )
    title = f"Healthy: {len(well)} gates of the numpy engine, {failed} failed (95%: at most {most:.3f}; stated 0.001)"
    text = Table(title, tuple(heads), rows).markdown()
    heads = [
        "damage",
        "arm",
        "dataset",
        ">true shift",
        ">MDE",
        ">gates",
        ">FAIL",
        ">INCONCLUSIVE",
        ">PASS",
    ]
    rows = []
    for measured in (v for v in ill if "true_shift" in v):
        place = [measured[name] for name in ("engine", "study", "arm")]
        mine = [
            v
            for v in ill
            if "true_shift" not in v and [v[name] for name in ("engine", "study", "arm")] == place
        ]
        if mine:
            counts = [
                str(sum(v["outcome"] == name for v in mine))
                for name in ("FAIL", "INCONCLUSIVE", "PASS")
            ]
            shift = f"{measured['true_shift']:+.4f} ± {np.std(measured['values'], ddof=1) / MEASURED**0.5:.4f}"
            sees = f"{measured['smallest_shift']:.4f}"
            arm = f"{place[1]}/{place[2]}"
            rows.append((place[0], arm, mine[0]["dataset"], shift, sees, str(len(mine)), *counts))
    title = f"Damaged: the shift measured first, by {MEASURED} seeds of its own (± its standard error), then gates"
    text += "\n" + Table(title, tuple(heads), rows).markdown()
    text += "\n" + agreement()
    (HERE / "README.md").write_text(HEAD + text, encoding="utf-8")


def agreement() -> str:
    """The stored runs of the numpy engine against those of torch and keras."""
    ours = read(HERE.parent / "reference" / "regularization.lenet5-tanh.mnist.quick.jsonl")
    theirs = read(HERE / "agreement.jsonl")
    texts = []
    for engine in ("torch", "keras"):
        found = compare(ours, [run for run in theirs if run.key.engine == engine])
        title = f"Agreement: numpy (A) and {engine} (B), difference of means with 95% interval"
        texts.append(
            comparison_table(
                [one for one in found if one.relation is not Relation.LEFT_OUT], title
            ).markdown()
        )
    return "\n".join(texts)


HEAD = """# What gates see, and how often they are right

`quick.md` and `full.md` say what the gate of each regularisation arm sees and costs (`dlsys-bench power`). Below, real
gates at tier quick, alpha 1e-3 and beta 1e-2 each, with seeds that nothing else uses. Verdicts: `healthy.jsonl`
and `damaged.jsonl`. Last, ten runs of each arm of LeNet-5 tanh in torch and in keras (`agreement.jsonl`) beside the
stored ones of numpy: no difference is seen, and the intervals say how large one may be. `measure.py` makes all of it.

"""

if __name__ == "__main__":
    {"healthy": healthy, "damaged": damaged, "report": report}[sys.argv[1]]()
