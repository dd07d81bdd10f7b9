"""Calibration: train reference runs in parallel, on this machine or on a dask cluster."""

from dlsys_bench.runs.calibration.calibrate import FAILURES_TO_STOP, Calibration, calibrate
from dlsys_bench.runs.calibration.connection import start_workers
from dlsys_bench.runs.calibration.job import Failure, Job, jobs_of_study, jobs_of_training
from dlsys_bench.runs.calibration.reference import merge

__all__ = [
    "FAILURES_TO_STOP",
    "Calibration",
    "Failure",
    "Job",
    "calibrate",
    "jobs_of_study",
    "jobs_of_training",
    "merge",
    "start_workers",
]
