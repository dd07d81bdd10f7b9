"""The datasets of the workloads, by name."""

from __future__ import annotations

from dlsys_bench.data import Source
from dlsys_bench.workloads.cifar10 import CIFAR10
from dlsys_bench.workloads.tasks import TASKS

DATASETS: dict[str, Source] = {source.name: source for source in (CIFAR10, *TASKS)}
"""Every dataset of the workloads, by name."""
