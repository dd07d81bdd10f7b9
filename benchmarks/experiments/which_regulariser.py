"""Rank the regularisers by stored runs, and write the page docs/which-regulariser.md.

    python benchmarks/experiments/which_regulariser.py [RUNS...]

RUNS are files of runs of the studies `regularizers/...` at tier full, by default
reports/reference/regularizers.*.full.jsonl. They are made, and continued where they stopped, by

    dlsys-bench calibrate regularizers/mlp-600 --dataset mnist --engine numba --tier full --seeds 20
"""

from __future__ import annotations

import sys
from pathlib import Path

from dlsys_bench.runs.store import read
from dlsys_bench.workloads.regularizer_page import page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "which-regulariser.md"


def main() -> None:
    """Write the page from the files named on the command line."""
    stored = sorted((ROOT / "reports" / "reference").glob("regularizers.*.full.jsonl"))
    files = [Path(name) for name in sys.argv[1:]] or stored
    PAGE.write_text(page(run for file in files for run in read(file)), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} from {len(files)} files")


if __name__ == "__main__":
    main()
