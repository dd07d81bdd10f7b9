"""The arguments of a check: the engine, the oracle, and a search for failing examples."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar
from unittest.mock import patch

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, UnsatisfiedAssumption
from hypothesis.internal.conjecture.providers import HypothesisProvider

from dlsys_bench.conformance.clock import Stopwatch
from dlsys_bench.conformance.expectation import NOISE, SHARP, Expectation, Scales
from dlsys_bench.conformance.finding import BrokenError, Fault, broken
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.dtypes import by_precision
from dlsys_bench.spec.layers import FUNCTIONS, VARIANTS
from dlsys_bench.spec.losses import LOSSES

LEAST = 4
"""The number of examples that a search draws even if they do not fit into its budget.

Of 387 mutants of the numpy engine, the check that is recorded to detect each finds 359 with three
examples, 365 with four and 368 with six.
"""

LEAST_NATIVE = 3
"""The number of examples on which an engine trains natively as well, even if they do not fit into
the budget. The first of them is the simplest one."""

T = TypeVar("T")

EngineFactory = Callable[[str], Engine]
"""Returns the engine in a dtype, or in its default dtype for an empty string."""


class Options(NamedTuple):
    """The seed and the limits of the checks.

    A search in a check draws up to `examples` examples, as far as they fit into `budget` seconds; a
    failing example is shrunk for `shrink` seconds. A check may take `seconds` in total, if it runs
    in a worker process. All are seconds of CPU time, so that a busy machine draws as many examples
    as an idle one.
    """

    seed: int = 0
    examples: int = 40
    budget: float = 0.5
    seconds: float = 120.0
    shrink: float = 5.0


class EngineTarget(NamedTuple):
    """The name of an engine, as for `dlsys-bench --engine`, and its device."""

    name: str
    device: str = "cpu"


class Trial:
    """The engine under test, behind a guard, with the oracle and a limit on what is drawn.

    All that is drawn follows from the seed of the options. `dtype` is the precision of the engine
    (None: the highest it has; an empty string: its default), `loosens` the tolerance that the
    engine declares for this check, and `target` the name by which another process can create it, if
    it has one. `has_time` is false in examples that a search draws beyond its budget; checks may
    then leave out what repeats the check in another way.
    """

    def __init__(
        self,
        make: EngineFactory,
        options: Options = Options(),  # noqa: B008
        *,
        dtype: str | None = None,
        loosens: float | None = None,
        target: EngineTarget | None = None,
    ) -> None:
        self.make, self.options, self.loosens = make, options, loosens
        self.target = target
        self._dtype = dtype
        self.oracle = Oracle()
        self.drawn = 0
        self.has_time = True

    @property
    def seed(self) -> int:
        """The seed of all draws."""
        return self.options.seed

    def restart(self, seed: int) -> None:
        """Draw everything from another seed from now on."""
        self.options = self.options._replace(seed=seed)
        self.__dict__.pop("generator", None)

    @cached_property
    def engine(self) -> Guard:
        """The engine in the precision of the check."""
        dtype = self._dtype
        if dtype is None:
            dtype = by_precision(self.make("").dtypes)[0]
        return Guard(self.make(dtype))

    @cached_property
    def generator(self) -> np.random.Generator:
        """A generator of the data of the check."""
        return np.random.default_rng((self.seed, 0))

    @property
    def tolerance(self) -> float:
        """The relative tolerance between two ways in which the engine computes the same, or the one
        that it declares, if that is larger."""
        return self.loosened(SHARP * NOISE[self.engine.dtype])

    def expect(
        self,
        compute: Callable[[Oracle], Mapping[str, Any]],
        scales: Scales | None = None,
        *,
        sharp: int = SHARP,
    ) -> Expectation:
        """Return what `compute` returns for the oracle, with tolerances for this engine."""
        noise, declared = NOISE[self.engine.dtype], self.loosens or 0.0
        return Expectation(compute, noise, scales, sharp=sharp, declared=declared)

    def loosened(self, tolerance: float) -> float:
        """Return a tolerance, or the one that the engine declares, if that is larger."""
        return max(tolerance, self.loosens or 0.0)

    @cached_property
    def lacks(self) -> frozenset[str]:
        """The layers, functions and so on that the engine declares it lacks."""
        return frozenset(self.make("").lacks)

    @property
    def native(self) -> bool:
        """True if the engine can shuffle and drop out by itself, without a plan."""
        return "native" not in self.lacks

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of layers that the engine has."""
        return tuple(
            name
            for name, (layer, _) in VARIANTS.items()
            if self.lacks.isdisjoint((f"layer:{layer.kind}", f"layer:{name}"))
        )

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """The activation functions that the engine has."""
        return tuple(function for function in FUNCTIONS if f"function:{function}" not in self.lacks)

    @cached_property
    def losses(self) -> tuple[str, ...]:
        """The kinds of losses that the engine has."""
        return tuple(kind for kind in LOSSES if f"loss:{kind}" not in self.lacks)

    @property
    def convention(self) -> str:
        """The first convention of the engine."""
        return self.engine.conventions[0]

    def search(
        self, strategy: st.SearchStrategy[T], body: Callable[[T], None], examples: int | None = None
    ) -> None:
        """Draw examples until the body fails on one; shrink it and raise the error of the smallest
        example. `examples` limits their number further than the options do.

        The body rejects an example that it cannot compare by `hypothesis.assume`; such examples are
        not counted, because a check that compared nothing has not passed.
        """
        limit = self.options.examples
        Search(self, body).run(strategy, min(examples or limit, limit))


class SearchEndedError(BaseException):
    """Ends a search from inside. It is no Exception, which hypothesis would take for a failure."""


class Search(Generic[T]):
    """A search for a failing example: hypothesis draws and shrinks, this keeps the time."""

    def __init__(self, trial: Trial, body: Callable[[T], None]) -> None:
        self.trial, self.body = trial, body
        self.watch, self.allowed = Stopwatch(), trial.options.budget
        self.failures: list[BrokenError] = []
        self.error: Exception | None = None
        self.ended = False

    def run(self, strategy: st.SearchStrategy[T], examples: int) -> None:
        """Draw examples and raise BrokenError with the smallest that fails, if one does.

        Hypothesis keeps a tenth of the examples small and draws these first. The least number of
        examples is therefore drawn on its own, so that a slow engine does not see small ones alone.
        """
        least = min(LEAST, examples)
        self._draw(strategy, least, self.trial.seed)
        if examples > least and not self.ended:
            self._draw(strategy, examples - least, self.trial.seed + 1)

    def _draw(self, strategy: st.SearchStrategy[T], examples: int, seed: int) -> None:
        """Draw some examples, and raise BrokenError as `run` does."""

        @hypothesis.seed(seed)
        @_settings(examples)
        @hypothesis.given(strategy)
        def drawn(example: T) -> None:
            self._try(example)

        try:
            with _independent_of_imports():
                drawn()
        except SearchEndedError:
            self.ended = True
            for error in (*self.failures[-1:], self.error):
                if error is not None:
                    raise error from None
        except Flaky:
            first = self.failures[0].finding
            message = f"the result differs between two calls on one input: {first.summary}"
            raise broken(Fault.NOT_DETERMINISTIC, message, example=first.example) from None

    def _try(self, example: T) -> None:
        enough = bool(self.failures) or self.trial.drawn >= LEAST
        late = self.watch.seconds > self.allowed
        if enough and late:
            raise SearchEndedError
        self.trial.has_time = bool(self.failures) or not late or self.trial.drawn < LEAST_NATIVE
        self.trial.drawn += 1
        try:
            self.body(example)
        except UnsatisfiedAssumption:
            self.trial.drawn -= 1
            raise
        except BrokenError as error:
            if not self.failures:
                self.watch, self.allowed = Stopwatch(), self.trial.options.shrink
            # Hypothesis raises again only on smaller examples, so the last failure is the smallest
            # if the time ends before the shrinking does.
            self.failures.append(error.on(example))
            raise self.failures[-1] from None
        except Exception as error:
            # An error of the check, or a layer that the engine declares it lacks: there is nothing
            # to shrink, and it must not be lost when the time ends.
            self.error = error
            raise SearchEndedError from None


@contextlib.contextmanager
def _independent_of_imports() -> Iterator[None]:
    """Keep hypothesis from drawing constants out of the modules that happen to be imported.

    Otherwise a seed would draw other examples in a replay, in a session with other tests, and in an
    installed package.
    """

    def draw_none(*_: Any, **__: Any) -> None:
        return None

    with patch.object(HypothesisProvider, "_maybe_draw_constant", draw_none):
        yield


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        derandomize=False,
    )
