"""Data sets: which there are, how they reach the machine, and how they are made ready for
training."""

from dlsys_bench.data.dataset import Dataset
from dlsys_bench.data.files import FileReport, fetch, verify
from dlsys_bench.data.load import at_hand, load
from dlsys_bench.data.samples import Data, Samples, prepare, training_part
from dlsys_bench.data.source import DATASETS, Source

__all__ = [
    "DATASETS",
    "Data",
    "Dataset",
    "FileReport",
    "Samples",
    "Source",
    "at_hand",
    "fetch",
    "load",
    "prepare",
    "training_part",
    "verify",
]
