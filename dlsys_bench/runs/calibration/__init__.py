"""The runs that bands are made of, many at a time, on the workers of a dask cluster."""

from dlsys_bench.runs.calibration.calibrate import Calibration, calibrate
from dlsys_bench.runs.calibration.job import Failure, Job, jobs_of_study, jobs_of_training
from dlsys_bench.runs.calibration.reference import merge

__all__ = [
    "Calibration",
    "Failure",
    "Job",
    "calibrate",
    "jobs_of_study",
    "jobs_of_training",
    "merge",
]
