"""The rungs of the ladder, the checks on them, and what a check is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, TypeVar

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, UnsatisfiedAssumption

from dlsys_bench.conformance.finding import BrokenError, broken
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.engines.base import Engine
from dlsys_bench.spec.layers import FUNCTIONS, LAYERS
from dlsys_bench.spec.losses import LOSSES
from dlsys_bench.spec.optimizers import OPTIMIZERS

RUNGS = (
    "shapes",
    "forward",
    "gradient",
    "loss",
    "step",
    "state",
    "initializer",
    "schedule",
    "trajectory",
    "evaluation",
    "checkpoint",
    "determinism",
    "distribution",
)
"""From what everything stands on to what stands on everything. Only the last is statistical."""

TOLERANCE = {"float64": 1e-9, "float32": 2e-3}
"""Of the largest value that is compared. In single precision a batch norm over a few samples loses
several digits."""

SINGLE = 1e-5
"""Of the sum of magnitudes: what 24 bits allow in short sums, and 11 (half precision, TF32) do
not."""

LEAST = 8
"""Examples that a search draws whatever they cost."""

T = TypeVar("T")


class Check(NamedTuple):
    """One thing that is looked at."""

    rung: str
    subject: str
    run: Callable[[Trial], None]

    @property
    def name(self) -> str:
        return f"{self.rung}/{self.subject}"


CHECKS: dict[str, Check] = {}
"""Every check by name, rung after rung."""

Body = Callable[["Trial", str], None]


def check(rung: str, *subjects: str) -> Callable[[Body], Body]:
    """Register a function of a trial and a subject as the checks of these subjects."""

    def register(body: Body) -> Body:
        for subject in subjects:

            def run(trial: Trial, subject: str = subject) -> None:
                body(trial, subject)

            CHECKS[f"{rung}/{subject}"] = Check(rung, subject, run)
        return body

    return register


class EnoughError(BaseException):
    """Ends a search from inside. Not an Exception: hypothesis would take one for a failure of the
    test."""


class Trial:
    """What a check is given: the engine, watched; the oracle; and how much it may draw.

    `budget` is in seconds: a search draws `examples`, or as many as fit; a failure is shrunk as
    long again. What it draws follows from `seed` alone.
    """

    def __init__(
        self,
        make: Callable[[str], Engine],
        *,
        seed: int = 0,
        examples: int = 40,
        budget: float = 2.5,
        shrink: float | None = None,
        loosens: float | None = None,
    ) -> None:
        self.make, self.seed, self.examples, self.budget = make, seed, examples, budget
        self.shrink = 2 * budget if shrink is None else shrink
        self.loosens = loosens
        self.oracle = Oracle()
        self.drawn = 0

    @cached_property
    def engine(self) -> Guard:
        """In double precision if the engine has it."""
        return self.at("float64") if "float64" in self.dtypes else self.at("float32")

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(self.make("").dtypes)

    @cached_property
    def generator(self) -> np.random.Generator:
        return np.random.default_rng((self.seed, 0))

    def at(self, dtype: str) -> Guard:
        """The engine in a dtype."""
        return Guard(self.make(dtype))

    @property
    def tolerance(self) -> float:
        return self.allowed(self.engine.dtype)

    def allowed(self, dtype: str) -> float:
        """The tolerance of a dtype, or what the engine declares for this check, if that is more."""
        return max(TOLERANCE[dtype], self.loosens or 0.0)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of layers that the engine does not declare to lack."""
        return tuple(kind for kind in LAYERS if f"layer:{kind}" not in self.lacks)

    @cached_property
    def functions(self) -> tuple[str, ...]:
        return tuple(function for function in FUNCTIONS if f"function:{function}" not in self.lacks)

    @cached_property
    def losses(self) -> tuple[str, ...]:
        return tuple(kind for kind in LOSSES if f"loss:{kind}" not in self.lacks)

    @cached_property
    def optimizers(self) -> tuple[str, ...]:
        return tuple(kind for kind in OPTIMIZERS if f"optimizer:{kind}" not in self.lacks)

    @cached_property
    def lacks(self) -> frozenset[str]:
        return frozenset(self.make("").lacks)

    def conventions(self) -> st.SearchStrategy[str]:
        return st.sampled_from(self.engine.conventions)

    def search(
        self, strategy: st.SearchStrategy[T], body: Callable[[T], None], examples: int | None = None
    ) -> None:
        """Draw examples until one fails, shrink it, and raise what the smallest shows.

        One that the body cannot use, it leaves by `hypothesis.assume`, and it is not counted: a
        check that compared nothing has not passed.
        """
        found: list[BrokenError] = []
        others: list[Exception] = []
        began = time.perf_counter()
        until = [began + self.budget]

        @hypothesis.seed(self.seed)
        @settings(
            max_examples=examples or self.examples,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            derandomize=False,
        )
        @hypothesis.given(strategy)
        def drawn(example: T) -> None:
            # However slow: the first are the simplest there are.
            if time.perf_counter() > until[0] and (found or self.drawn >= LEAST):
                raise EnoughError
            self.drawn += 1
            try:
                body(example)
            except UnsatisfiedAssumption:
                self.drawn -= 1  # nothing was compared
                raise
            except BrokenError as error:
                if not found:
                    until[0] = time.perf_counter() + self.shrink
                # Hypothesis keeps what is smaller than the last; so does this, for when time ends
                # the shrinking.
                found.append(error.on(example))
                raise found[-1] from None
            except Exception as error:
                # Not the engine's mistake, or what it declares: nothing to shrink, and time must
                # not end it unheard.
                others.append(error)
                raise EnoughError from None

        try:
            drawn()
        except EnoughError:
            for error in (*found[-1:], *others):
                raise error from None
        except Flaky:
            first = found[0].finding
            raise broken(
                f"not the same twice on the same input: {first.what}", example=first.example
            ) from None
