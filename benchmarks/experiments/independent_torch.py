"""Train four regularisation arms in plain torch, by different readings of their notebooks.

    python benchmarks/experiments/independent_torch.py train MINUTES [NAME ...]  # appends runs
    python benchmarks/experiments/independent_torch.py report                    # writes the table

The names of arms and of readings select what is trained; "base" is the reading of the studies.

The networks (independent_networks.py), the preparation, the batches and the loop are written in
torch.nn and torch.optim alone: no engine of the package takes part. Each reading changes one thing
of the base, which is the reading of the studies. One training serves all conventions of the moving
statistics, because they do not act on it: every epoch is evaluated by each of them. Runs are stored
as they end, seed by seed over all readings, and a further start continues where the last one ended.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from time import monotonic
from typing import Any

import numpy as np
import torch
from independent_networks import NETWORKS, Network, Norm, Reading
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dlsys_bench.data import load
from dlsys_bench.provenance import provenance
from dlsys_bench.report.table import Table

ROOT = Path(__file__).parents[2]
STORED = ROOT / "reports" / "studies" / "independent.jsonl"
REFERENCE = ROOT / "reports" / "reference"
FIRST_SEED, SEEDS = 70_000, 3
EARLIER = {
    "regularization/fashion/lenet5-relu": 0.8875,
    "regularization/fashion/lenet5-relu+bn": 0.8873,
    "regularization/fashion-mlp/bn": 0.8501,
    "regularization/lenet5-sigmoid/dropout": None,
}
"""The figures of an earlier independent implementation, of one run each; None if unknown."""


def prepared(images: Any, known: Any, how: str) -> Tensor:
    """Return images as a tensor, prepared with the statistics of the training images."""
    x, known = (each.reshape(-1, 28, 28).astype(np.float32) for each in (images, known))
    if how == "raw":
        return torch.tensor(x)
    axes = 0 if how == "pixel" else None
    center, scale = known.mean(axes, np.float64), known.std(axes, np.float64)
    if how == "unit":
        center, scale = np.array(0.0), np.array(255.0)
    return torch.tensor(((x - center) / np.where(scale > 0, scale, 1.0)).astype(np.float32))


def kept(count: int, network: Network, reading: Reading) -> Tensor:
    """Return the places of the samples that each replica is trained on, (samples, replicas)."""
    number = count - round(count * network.held_out)
    draw = torch.randperm if reading.split == "random" else torch.arange
    return torch.stack([draw(count)[:number] for _ in range(network.replicas)], 1)


CONVENTIONS = {
    "0.99, biased": (0, False),
    "0.99, unbiased": (0, True),
    "0.9, biased": (1, False),
    "0.9, unbiased": (1, True),
}
"""The conventions of the moving statistics: their decay, and the variance of a batch."""


@torch.no_grad()
def accuracies(net: nn.Sequential, x: Tensor, y: Tensor, replicas: int) -> dict[str, list[float]]:
    """Return the accuracy of each replica by each convention of the moving statistics."""
    norms = [layer for layer in net if isinstance(layer, Norm)]
    net.eval()
    found = {}
    for name, (decay, unbiased) in CONVENTIONS.items() if norms else [("", (0, False))]:
        for norm in norms:
            norm.decay, norm.unbiased = decay, unbiased
        right = torch.zeros(replicas, dtype=torch.int64)
        for images, labels in zip(torch.split(x, 1000), torch.split(y, 1000), strict=True):
            outputs = net(images[:, None].expand(-1, replicas, -1, -1))
            right += (outputs.view(-1, replicas, 10).argmax(2) == labels[:, None]).sum(0)
        found[name] = (right / len(x)).tolist()
    net.train()
    return found


def train(network: Network, reading: Reading, seed: int) -> list[dict[str, Any]]:
    """Train the replicas once, and return their runs with the test accuracies of every epoch."""
    torch.manual_seed(seed)
    data, replicas = load(network.dataset), network.replicas
    x, x_test = (
        prepared(one, data.x_train, reading.preparation) for one in (data.x_train, data.x_test)
    )
    y, y_test = (torch.tensor(np.asarray(one)) for one in (data.y_train, data.y_test))
    places = kept(len(x), network, reading)
    net = nn.Sequential(*network.layers(reading, replicas))
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, eps=reading.adam_epsilon, fused=True)
    started, history = monotonic(), []
    for _ in range(network.epochs):
        order = places
        if reading.shuffle:
            each = [places[torch.randperm(len(places)), n] for n in range(replicas)]
            order = torch.stack(each, 1)
        for batch in torch.split(order, network.batch):
            optimizer.zero_grad()
            outputs = net(x[batch]).reshape(-1, 10)
            torch.autograd.backward(replicas * cross_entropy(outputs, y[batch].flatten()))
            optimizer.step()
        history.append(accuracies(net, x_test, y_test, replicas))
    common = {
        "arm": network.arm,
        "reading": vars(reading),
        "seed": seed,
        "seconds": round(monotonic() - started, 1),
        "provenance": provenance(),
    }
    return [
        {
            **common,
            "replica": n,
            "test_accuracy": {
                name: [round(one[name][n], 4) for one in history] for name in history[0]
            },
        }
        for n in range(replicas)
    ]


def lines() -> list[dict[str, Any]]:
    """Return the stored runs."""
    if not STORED.exists():
        return []
    return [json.loads(line) for line in STORED.read_text("utf-8").splitlines()]


def open_runs() -> Iterator[tuple[Network, Reading, int]]:
    """Yield the runs that are not stored: the first readings of every network first."""
    known = {(line["arm"], line["reading"]["name"], line["seed"]) for line in lines()}
    for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
        for number in range(max(len(network.readings) for network in NETWORKS)):
            for network in NETWORKS:
                for reading in network.readings[number : number + 1]:
                    if (network.arm, reading.name, seed) not in known:
                        yield network, reading, seed


def train_all(minutes: float, names: Sequence[str]) -> None:
    """Train the named arms and readings, by default all, until the time is over."""
    started = monotonic()
    arms = {name for name in names if name in EARLIER} or set(EARLIER)
    readings = set(names) - arms
    for network, reading, seed in open_runs():
        if network.arm not in arms or (readings and reading.name not in readings):
            continue
        if monotonic() - started > 60 * minutes:
            return
        runs = train(network, reading, seed)
        with STORED.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(run) + "\n" for run in runs)


Group = tuple[str, str, str]
"""An arm, a reading, and a convention of the moving statistics."""

LATE = 5
"""The number of last epochs whose swing is reported."""


def stored_figures() -> dict[str, list[list[float]]]:
    """Return the test accuracies of every epoch of the reference runs, by arm."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    names = {network.arm: network for network in NETWORKS}
    for study in dict.fromkeys(name.rpartition("/")[0] for name in names):
        for path in REFERENCE.glob(f"{study.replace('/', '.')}.*.full.jsonl"):
            for line in path.read_text("utf-8").splitlines():
                run = json.loads(line)
                arm = f"{run['study']}/{run['arm']}"
                if arm in names:
                    found[arm].append([epoch["test_accuracy"] for epoch in run["history"]])
    return found


def row(arm: str, what: str, statistics: str, runs: list[list[float]]) -> tuple[str, ...]:
    """Return a row: the last epoch of each run, and the last epochs of all of them."""
    last = [run[-1] for run in runs]
    late = [value for run in runs for value in run[-LATE:]]
    figures = EARLIER[arm]
    return (
        arm,
        what,
        statistics,
        str(len(runs)),
        f"{mean(last):.4f}" + (f" ± {stdev(last):.4f}" if len(last) > 1 else ""),
        f"{mean(late):.4f} ± {stdev(late):.4f}",
        f"{min(late):.4f}",
        "-" if figures is None else f"{sum(v <= figures for v in late)} of {len(late)}",
    )


def report() -> None:
    """Write the table."""
    rows, groups = list[tuple[str, ...]](), defaultdict[Group, list[list[float]]](list)
    for line in lines():
        for statistics, history in line["test_accuracy"].items():
            groups[line["arm"], line["reading"]["name"], statistics].append(history)
    references = stored_figures()
    for network in NETWORKS:
        rows.append(row(network.arm, "the studies' engines", "-", references[network.arm]))
        rows += [row(*key, runs) for key, runs in groups.items() if key[0] == network.arm]
    heads = (
        *("arm", "reading", "moving statistics", ">runs", ">last epoch"),
        *(f">last {LATE} epochs", ">their smallest", ">of these at most the earlier figure"),
    )
    title = "Test accuracy by an independent implementation in torch, one change at a time"
    STORED.with_suffix(".md").write_text(Table(title, heads, rows).markdown(), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["train"]:
        train_all(float(sys.argv[2]), sys.argv[3:])
    else:
        report()
