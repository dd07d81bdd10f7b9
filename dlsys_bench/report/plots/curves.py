"""Pictures of results, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlsys_bench.result import Result

# Okabe & Ito's colours, which colour-blind readers can tell apart; each line has its own dashes too.
LINES = (
    ("running", "training, running", "#E69F00", (0, (4, 2))),
    ("train", "training, evaluated", "#D55E00", "solid"),
    ("validation", "validation", "#009E73", (0, (1, 1))),
    ("test", "test", "#0072B2", "solid"),
)


def curves(results: Sequence[Result], path: Path) -> Path:
    """Loss and accuracy by epoch, an arm a column: the mean of the seeds, their range shaded. Writes a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    arms: dict[str, list[Result]] = {}
    for run in results:
        if run.history:
            arms.setdefault(f"{run.arm}\n({run.engine})", []).append(run)
    figure = Figure(figsize=(max(3.0 * len(arms), 6.4), 5.6), layout="constrained")
    axes = figure.subplots(2, len(arms), sharex="col", sharey="row", squeeze=False)
    for column, (arm, runs) in enumerate(arms.items()):
        for row, what in enumerate(("loss", "accuracy")):
            axis = axes[row][column]
            for split, label, colour, dashes in LINES:
                _line(axis, runs, f"{split}_{what}", label, colour, dashes)
            axis.grid(alpha=0.3)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes[0][column].set_title(
            f"{arm.replace(')', '')}, {len(runs)} seed{'s' if len(runs) > 1 else ''})", fontsize=10
        )
        axes[1][column].set_xlabel("epoch")
    axes[0][0].set_ylabel("loss (mean of a batch)")
    axes[1][0].set_ylabel("accuracy (fraction right)")
    first = results[0]
    figure.suptitle(f"{first.study} on {first.dataset}, tier {first.tier}", fontsize=12)
    lines: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            lines.setdefault(label, handle)
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _line(axis: Any, runs: Sequence[Result], name: str, label: str, colour: str, dashes: Any) -> None:
    known = [[getattr(epoch, name) for epoch in run.history] for run in runs]
    known = [values for values in known if all(value is not None for value in values)]
    if not known:
        return
    length = min(map(len, known))
    values = np.array([row[:length] for row in known], np.float64)
    epochs = np.arange(1, length + 1)
    marker = "o" if length == 1 else None
    axis.plot(epochs, values.mean(axis=0), color=colour, linestyle=dashes, label=label, marker=marker)
    if len(known) > 1:
        axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)


PLOTS: dict[str, Callable[[Sequence[Result], Path], Path]] = {"curves": curves}
