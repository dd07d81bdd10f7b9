"""Datasets: their sources, download and verification, and their preparation for training."""

from dlsys_bench.data.dataset import Dataset
from dlsys_bench.data.files import FileReport, fetch, verify
from dlsys_bench.data.inputs import join_inputs, split_inputs
from dlsys_bench.data.load import is_available, load
from dlsys_bench.data.samples import Samples, Scaling, Splits, prepare, training_count
from dlsys_bench.data.source import Source, datasets

__all__ = [
    "Dataset",
    "FileReport",
    "Samples",
    "Scaling",
    "Source",
    "Splits",
    "datasets",
    "fetch",
    "is_available",
    "join_inputs",
    "load",
    "prepare",
    "split_inputs",
    "training_count",
    "verify",
]
