"""The table of options.

An option that several commands read alike is one row; one that means something else to another
command, or has another default there, has a row for that command.
"""

from __future__ import annotations

from pathlib import Path

from dlsys_bench.engines.registry import DEVICES
from dlsys_bench.engines.registry import NAMES as ENGINES
from dlsys_bench.options.kinds import (
    Choice,
    File,
    Flag,
    Folder,
    FolderName,
    Integer,
    Many,
    Number,
    PerMetric,
    Text,
)
from dlsys_bench.options.option import PYTEST, Option

DATASETS = "a name (see `list datasets`), a .npz file, or package.module:callable"
RUNS = Path("reports/runs.db")

TRAIN = ("run", "gate", "calibrate")
BENCH = ("bench sweep", "bench time-to-accuracy")
GATE = ("gate", "power", PYTEST)
TRAINING = ("gate", "power")
CALIBRATE = ("calibrate", "baseline accept")
SHOW = (
    "list",
    "doctor",
    "history",
    "summary",
    "look",
    "inspect",
    "compare",
    "bench compare",
    "data verify",
)
JSON = (*SHOW, *TRAIN, "power", "report", "conform", "runs list", "baseline accept", "baseline log")
TIERS = (*TRAIN, "power", "bench time-to-accuracy", PYTEST)
FILES = (*TRAIN, *BENCH, "power", "inspect", "look", "data verify", PYTEST)

NAME = Text("NAME")
NAMES = Many(NAME, "engines")
PROBABILITY = Number(above=0, below=1)
POSITIVE = Number(above=0)
SEED = Integer(0)
COUNT = Integer(1)
SCALING = Choice(("raw", "unit", "standard"))
TIER = Choice(("quick", "full"))
SHIFT_OF_METRIC = Many(PerMetric("[METRIC=]SHIFT", POSITIVE.takes, POSITIVE), "smallest_shift")
BETTER = Many(Text("[METRIC=]DIRECTION"), "better")
# An engine of another package may have further devices.
DEVICE_TO_TRAIN = f"Device to train on: {', '.join(DEVICES)}, or another that the engine has."
DTYPE = Many(Choice(("float32", "float64")), "dtypes")

ENGINE_TRAIN = f"Engine to train with; repeatable: {ENGINES}."
ENGINE_TEST = f"Engine under test; repeatable: {ENGINES}, or all. Default: all that are installed."
ENGINE_BENCH = "Engine to measure; repeatable. Default: all that are installed."
DATASET = f"Dataset: {DATASETS}. Default: that of the study if its files are there, else digits."
DATASET_OF_FILE = f"Dataset: {DATASETS}. Default: the one in the file's name."
SCALING_OF_RUN = (
    "Scaling of the data: raw as they are, unit x / 255, standard to mean 0 and standard deviation "
    "1. Default: that of the recipe."
)
ALPHA = (
    "False-alarm rate: the probability that healthy training fails any gate; shared over the gates."
)
BETA = "Probability that a gate misses a shift of the smallest size (1 - power)."
SHIFTS = (
    "Smallest shift to detect, in the metric's units, or for one of several metrics loss=0.1; "
    "repeatable. Default: the minimum detectable effect."
)
SHIFT = "Smallest shift to detect, in the metric's units. Default: the minimum detectable effect."

SECONDS_OF_CHECK = "CPU seconds after which a conformance check times out."
THREADS_OF_CHECK = (
    "Threads of the libraries in each process. Default: those that OMP_NUM_THREADS or its like "
    "sets, else the cores divided by the jobs."
)

EVIDENCE = (
    "File that accumulates the evidence of all sessions, created by the first; an arm whose "
    "evidence reaches 1,000 fails."
)
RUN_NUMBER = (
    "Number of this session, such as that of the CI run: each has seeds of its own. Default: with "
    "evidence, the number of commits in its file."
)
COMMIT = (
    "Commit that the evidence counts. Default: that of the repository of the working directory."
)
INCONCLUSIVE = (
    "Result of a test whose verdict is INCONCLUSIVE, and of a session that decides nothing."
)

ENV_ENGINE = "DLSYS_BENCH_ENGINE"
ENV_DATA = "DLSYS_BENCH_DATA"

GENERAL: tuple[Option, ...] = (
    # Training and judging.
    Option("engine", TRAIN, ENGINE_TRAIN, NAMES, ("numpy",), ENV_ENGINE, project=True),
    Option("engine", BENCH, ENGINE_BENCH, NAMES, (), project=True),
    Option("engine", (PYTEST,), ENGINE_TEST, NAMES, (), project=True),
    Option("engine", ("conform",), f"Engine: {ENGINES}.", NAME, "numpy", ENV_ENGINE, project=True),
    Option("device", (*TRAIN, "conform"), DEVICE_TO_TRAIN, NAME, "cpu", project=True),
    Option("device", (PYTEST,), "Device to train on.", Choice(DEVICES), "cpu", project=True),
    Option(
        "device",
        BENCH,
        "Device to measure on; repeatable.",
        Many(NAME, "devices"),
        ("cpu",),
        project=True,
    ),
    Option("dataset", TIERS, DATASET, NAME, project=True),
    Option("dataset", ("inspect",), DATASET_OF_FILE, NAME),
    Option(
        "data-dir",
        FILES,
        "Folder with the files of the datasets. Default: the cache.",
        FolderName(),
        environment=ENV_DATA,
        project=True,
    ),
    Option("scaling", TIERS, SCALING_OF_RUN, SCALING, project=True),
    Option("tier", TIERS, "Tier of the recipe.", TIER, "quick", project=True),
    Option("alpha", GATE, ALPHA, PROBABILITY, 1e-3, project=True),
    Option("beta", GATE, BETA, PROBABILITY, 1e-2, project=True),
    Option("max-seeds", GATE, "Maximum number of runs per gate.", COUNT, 12, project=True),
    Option("smallest-shift", ("power",), SHIFT, POSITIVE),
    Option("smallest-shift", ("gate",), SHIFTS, SHIFT_OF_METRIC, ()),
    Option(
        "side",
        ("gate", "power"),
        "Direction of the shifts that fail. worse: that in which the metric is worse, or both "
        "where that is not stated; a shift in the other direction is a warning.",
        Choice(("worse", "both", "drop", "rise")),
        "worse",
    ),
    Option("first-seed", ("gate",), "Seed of the first run.", SEED, 10_000),
    Option("jobs", ("gate",), "Runs at a time (numpy, numba, jax). Default: one per core.", COUNT),
    Option(
        "reference",
        ("baseline accept", "baseline log"),
        "File of reference runs. Default: that of `calibrate`.",
        File(),
    ),
    Option("why", ("baseline accept",), "Reason for the change; required.", Text("TEXT")),
    Option("reference", TRAINING, "Reference runs of a package.module:train.", File(exists=True)),
    Option("metric", ("power",), "Metric of a package.module:train.", NAME),
    Option(
        "metric",
        ("gate",),
        "Metric of a package.module:train to judge; repeatable: all are judged on the same runs, "
        "within the false-alarm rate.",
        Many(NAME, "metrics"),
        (),
    ),
    Option(
        "better",
        ("gate",),
        "Direction of a metric of a package.module:train, unless its reference states it: higher, "
        "lower, or for one of several metrics loss=lower; repeatable.",
        BETTER,
        (),
    ),
    Option(
        "better",
        ("calibrate",),
        "Direction, stored with the runs of a package.module:train: higher, lower, or for one of "
        "several metrics loss=lower; repeatable.",
        BETTER,
        (),
    ),
    Option(
        "inconclusive",
        ("gate",),
        "Count INCONCLUSIVE as this, instead of exit code 3.",
        Choice(("pass", "fail")),
    ),
    Option("evidence", ("gate",), EVIDENCE, File()),
    Option("evidence", (PYTEST,), EVIDENCE, Text("FILE")),
    Option("run-number", ("gate", PYTEST), RUN_NUMBER, Integer(0)),
    Option("commit", ("gate", PYTEST), COMMIT, NAME),
    Option("junit", ("gate",), "Write the verdicts to this file as JUnit XML.", File()),
    # Running.
    Option("seeds", ("run",), "Runs of each arm.", COUNT, 1),
    Option(
        "first-seed",
        ("run",),
        "Seed of the first run. Default: 10000, or 0 with --reference.",
        SEED,
    ),
    Option("resume", ("run",), "Skip the runs that the file already holds.", Flag(), False),
    Option("reference", ("run",), "Store the runs as reference runs.", Flag(), False),
    Option("jobs", ("run",), "Runs at a time, each on one thread (numpy, numba, jax).", COUNT, 1),
    Option("weights", ("run",), "Write the trained weights to this folder.", Folder()),
    Option(
        "output",
        ("run", "gate"),
        "File that keeps each run as it ends: a store, or NAME.jsonl for text.",
        File(),
        RUNS,
    ),
    Option("seeds", CALIBRATE, "Runs of each arm.", COUNT, 20),
    Option("first-seed", ("calibrate",), "Seed of the first run.", SEED, 0),
    Option(
        "workers",
        CALIBRATE,
        "Worker processes. Default: the number of cores; with cuda, 1.",
        COUNT,
    ),
    Option(
        "cluster",
        ("calibrate",),
        "Dask scheduler, as tls://host:8786, that runs the jobs instead of local workers.",
        Text("ADDRESS"),
    ),
    Option("store", CALIBRATE, "Store that keeps each run as it ends.", File(), RUNS),
    Option(
        "reference",
        ("calibrate",),
        "Merge the runs into the file of reference runs.",
        Flag(negative=True),
        True,
    ),
    Option(
        "output",
        ("calibrate",),
        "File of reference runs. Default: reports/reference/STUDY.DATASET.TIER.jsonl.",
        File(),
    ),
    Option(
        "resume",
        ("calibrate",),
        "Skip the runs that are stored. Default: those of a study; those of a package.module:train "
        "only if its reference file holds them.",
        Flag(negative=True),
    ),
    # Conformance.
    Option(
        "check",
        ("conform",),
        "Check, rung or pattern, such as '*@float32'; repeatable. Default: all.",
        Many(NAME, "checks"),
        (),
    ),
    Option(
        "explain",
        ("conform",),
        "Explain a check: what is checked, why, an engine that breaks it, and the usual fix.",
        NAME,
    ),
    Option("seed", ("conform",), "Seed of the random examples.", SEED, 0),
    Option("seed", (PYTEST,), "Seed of the conformance checks.", SEED, 0),
    Option("examples", ("conform",), "Maximum number of examples per check.", COUNT, 40),
    Option(
        "budget",
        ("conform",),
        "CPU seconds for a search, beyond its first four examples; shrinking may take 5 more.",
        POSITIVE,
        0.5,
    ),
    Option("seconds", ("conform", PYTEST), SECONDS_OF_CHECK, POSITIVE, 120.0),
    Option("threads", ("conform",), THREADS_OF_CHECK, COUNT),
    Option(
        "jobs",
        ("conform",),
        "Checks at a time, each in its own process. Default: the number of cores.",
        COUNT,
    ),
    Option("beyond", ("conform",), "Continue above a rung that breaks.", Flag(), False),
    Option(
        "output",
        ("conform",),
        "Folder for the report as JSON, Markdown and HTML, and for a badge.",
        Folder(),
    ),
    Option(
        "against",
        ("conform",),
        "Earlier report in JSON; print what has changed since.",
        File(exists=True),
    ),
    Option("json", JSON, "Print JSON.", Flag(), False),
    Option(
        "update",
        (PYTEST,),
        "Train new reference runs for `accuracy_gate` and write them, in place of judging.",
        Flag(),
        False,
    ),
    Option("json", (PYTEST,), "Write the verdicts to this file as JSON.", Text("FILE")),
    Option("inconclusive", (PYTEST,), INCONCLUSIVE, Choice(("fail", "skip")), "fail"),
)
