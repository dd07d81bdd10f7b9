"""What a declared lack removes: the checks about it, and no others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiers import current_commit, rank

from dlsys_bench import check_engine
from dlsys_bench.conformance.check import CHECKS
from dlsys_bench.conformance.checks.augmentation import CASES as AUGMENTATION_CASES
from dlsys_bench.conformance.checks.degenerate import SMALLEST
from dlsys_bench.conformance.checks.initializer import WIDE
from dlsys_bench.conformance.checks.native_masks import IN_FIT, MASKED, VARIANTS_IN_FIT
from dlsys_bench.conformance.checks.subjects import SUBJECTS
from dlsys_bench.conformance.checks.training_parts import PARTS as TRAINING_PARTS
from dlsys_bench.conformance.checks.update_cases import CASES
from dlsys_bench.conformance.declarations import DECLARABLE, SINGLE
from dlsys_bench.conformance.ladder import select
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.conformance.trial import Options
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.spec.layers import FUNCTIONS
from dlsys_bench.spec.losses import LOSSES
from dlsys_bench.spec.record import RECORDS

FEW = Options(examples=2, shrink=0.0)

LENET5 = {"forward/lenet5", "gradient/lenet5", "trajectory/lenet5-tanh", "trajectory/lenet5-relu"}
RESIDUAL = {"trajectory/residual", "trajectory/renamed-residual"}
EVERY_DRAW = {"trajectory/renamed-every-draw"}
# Replicas of one network with several layers each.
REPLICAS_OF_IMAGES = {"determinism/replicas-of-images"}
REPLICAS_OF_SEQUENCES = {"determinism/replicas-of-sequences"}
IMAGES = {
    "shapes/arrays",
    "shapes/dtypes-of-tokens",
    "state/dropout-of-images",
    "state/dropout-of-sequences",
    "evaluation/parts-of-images",
    "evaluation/parts-of-sequences",
    "evaluation/parts-of-tokens",
    "evaluation/rows-of-images",
    *REPLICAS_OF_IMAGES,
    "trajectory/batches-of-512-images",
    "trajectory/fit-large-sequences",
    *(
        f"{rung}/smallest-{name}"
        for name, case in SMALLEST.items()
        for rung in ("gradient", "state")
        if "layer:flatten" in case.requires
    ),
}
IMAGE_LAYERS = tuple(
    name for name, subject in SUBJECTS.items() if "layer:flatten" in subject.requires
)
"""The subjects that need a flatten."""

SEVERAL = {check.name for check in CHECKS.values() if "inputs" in check.requires}
"""The checks of models of several inputs, whose branches are joined."""

MASKS_IN_FIT = {
    *(f"state/mask-of-the-gradient-{name}" for name in (*MASKED, "multi_head_attention")),
    *(f"state/{name}" for name in (*IN_FIT, *VARIANTS_IN_FIT, "dropout-in-large-fit")),
    "state/multi_head_attention-dropout-of-many-keys",
}
ALIGNED_TOKENS = {"trajectory/aligned-tokens", "trajectory/aligned-positions"}
EVEN_SEQUENCES = {
    f"{rung}/{name}"
    for rung in ("forward", "gradient")
    for name in ("even-sequences", "many-sequences")
}
EVEN_IMAGES = {"forward/even-images", "gradient/even-images"}
KINDS = {f"step/kinds-{name}" for name in CASES}
SEQUENCES = {"step/large-batch-of-sequences"}
TOKENS = {"shapes/dtypes-of-tokens", "evaluation/parts-of-tokens"}
NORMS = {
    "trajectory/beside-batch_norm",
    *(f"initializer/tensors-of-{name}" for name in WIDE if name.endswith("_norm")),
}

BESIDE = {f"trajectory/beside-{name}" for name, part in TRAINING_PARTS.items() if part.kind.below}
"""The native trainings with something that needs a flatten, or a place where branches meet."""

AUGMENTED = {f"trajectory/augment-{name}" for name in AUGMENTATION_CASES}

CAUSAL_CONTEXT = {name for name in CHECKS if name.endswith("causal_cross_attention")}
"""The checks of a variant that is both causal and of a context."""

NOT_ASKED: Mapping[str, set[str]] = {
    # LeNet-5 is a network of convolutions, and every network of images needs a flatten.
    "layer:conv2d": LENET5
    | RESIDUAL
    | SEVERAL
    | REPLICAS_OF_IMAGES
    | EVEN_IMAGES
    | {"trajectory/batches-of-512-images"},
    "layer:conv1d": REPLICAS_OF_SEQUENCES
    | EVEN_SEQUENCES
    | {f"gradient/cross_attention-of-{length}-context" for length in ("long", "short")},
    # An encoder and a decoder are trained as a whole.
    "layer:multi_head_attention": SEVERAL,
    "layer:cross_attention": SEVERAL | CAUSAL_CONTEXT,
    "layer:causal_attention": CAUSAL_CONTEXT,
    "layer:causal_cross_attention": {"gradient/future-causal_attention-cross_attention"},
    "layer:flatten": LENET5
    | RESIDUAL
    | IMAGES
    | SEVERAL
    | AUGMENTED
    | MASKS_IN_FIT
    | KINDS
    | BESIDE
    | EVERY_DRAW
    | EVEN_SEQUENCES
    | EVEN_IMAGES
    | {f"trajectory/aligned-{name}" for name in ("sequences", "images", "tokens")}
    | {"determinism/replicas-drop-multi_head_attention"}
    | {name for name in CHECKS if re.search(rf"[/-]({'|'.join(IMAGE_LAYERS)})(-|$)", name)},
    # A residual network branches.
    "layer:add": RESIDUAL
    | SEVERAL
    | REPLICAS_OF_SEQUENCES
    | {"gradient/future-causal_attention-transformer"},
    "layer:concat": RESIDUAL | SEVERAL | REPLICAS_OF_IMAGES | BESIDE,
    "layer:embedding": SEVERAL
    | REPLICAS_OF_SEQUENCES
    | SEQUENCES
    | TOKENS
    | ALIGNED_TOKENS
    | EVEN_SEQUENCES
    | EVERY_DRAW,
    # The parts of a batch count by the labels that are kept.
    **dict.fromkeys(("loss:ignored_label", "loss:positions"), SEQUENCES),
    "inputs": SEVERAL,
    # A norm does not let its initialisers be chosen.
    **dict.fromkeys(("initializer:ones", "initializer:zeros"), NORMS),
    # Its gradient is exactly zero where outputs are the targets.
    "loss:mean_squared_error": {
        "step/clip_norm-of-zero",
        "trajectory/inputs-together",
        # The gradient of the output is a number that is too small or too large for float16.
        "step/loss_scale-float16-underflow",
        "step/loss_scale-float16-overflow",
    },
    # Every network ends in a dense layer.
    "layer:dense": {check.name for check in CHECKS.values()},
    # Only dropout takes masks.
    "layer:dropout": {"shapes/layout-of-masks"},
    # What is kept is inferred from a movement in proportion to it.
    "optimizer:sgd": {
        "trajectory/large-shuffling",
        # By Adam, rows move alike in batches of some sizes.
        "trajectory/beside-batch_sizes",
        *MASKS_IN_FIT,
    },
}
"""The checks that are not about something, but that cannot be asked without it."""

ALWAYS = (
    "shapes/history",
    "state/optimizer",
    "gradient/dense",
    "state/stopped",
    "trajectory/deep",
    "trajectory/mlp",
    "trajectory/order",
    "evaluation/while-learning",
    "checkpoint/file",
    "determinism/seed",
    "determinism/plan",
    "determinism/alone",
    "determinism/replicas",
    "determinism/replicas-shuffle",
)
"""Checks that are about no layer, function, loss, optimiser or initialiser."""


def lacks() -> Iterator[str]:
    """Yield everything that an engine may lack, except a dtype."""
    for what, kinds in DECLARABLE.items():
        yield from (f"{what}:{kind}" for kind in kinds if what != "dtype")
    yield from (single for single in SINGLE if single != "native")


def is_about(check_name: str, lack: str) -> bool:
    """Return whether the subject of a check is a record, or a variant of it."""
    kind = lack.rpartition(":")[2]
    if lack in ("schedule", "batch_sizes", "augment"):
        places = ("schedule/", f"trajectory/{lack}-", f"trajectory/beside-{lack}")
        return check_name.startswith(places)
    names = {kind, *(RECORDS[kind].all_variants() if kind in RECORDS else ())}
    if lack == "decay:decoupled":
        names |= {"adamw"}
    if lack == "layer:activation":
        names |= {*FUNCTIONS, "far"}
    return any(re.search(rf"[/-]{name}(-|$)", check_name) for name in names)


@pytest.mark.parametrize("lack", [*lacks()])
def test_only_checks_about_a_record_require_it(lack: str) -> None:
    requiring = {check.name for check in CHECKS.values() if lack in check.requires}
    others = {name for name in requiring if not is_about(name, lack)}
    assert others <= NOT_ASKED.get(lack, set())


def without(lack: str) -> type[NumpyEngine]:
    """Return an engine that declares a lack, or several with spaces between them, and has one
    dtype."""

    class Lacking(NumpyEngine):
        lacks = {**NumpyEngine.lacks, **dict.fromkeys(lack.split(), "for a test")}  # noqa: RUF012
        dtypes = ("float64",)

    return Lacking


def declared(results: list[CheckResult]) -> set[str]:
    """Return the names of the checks that did not run, without the dtype."""
    found = (result for result in results if result.status is Status.DECLARED)
    return {result.name.partition("@")[0] for result in found}


@pytest.mark.rotates("unrelated checks", 2)
@pytest.mark.parametrize(
    "lack",
    [
        "function:relu",
        "function:tanh",
        "layer:dropout",
        "layer:activation",
        "optimizer:sgd",
        "optimizer:adam",
        "loss:mean_squared_error",
        "initializer:zeros",
        "schedule",
    ],
)
def test_unrelated_checks_are_asked(lack: str) -> None:
    results = check_engine(without(lack), checks=ALWAYS, options=FEW)
    assert [result.message() for result in results if result.status is not Status.PASSED] == []


@pytest.mark.parametrize(
    ("lack", "name"),
    [
        ("layer:flatten", "shapes/group_norm"),
        ("initializer:zeros", "trajectory/residual"),
        ("layer:dilated_conv2d", "determinism/replicas-of-images"),
        ("layer:global_average_pool", "determinism/replicas-of-sequences"),
        ("batch_sizes", "determinism/replicas-combined"),
        ("function:tanh", "step/loss_scale-overflow-nan"),
        ("optimizer:sgd", "schedule/loss_scale"),
        ("layer:flatten", "forward/global_average_pool"),
        ("layer:grouped_conv2d layer:dilated_conv2d", "determinism/replicas-of-images"),
    ],
)
def test_an_example_is_found_without_what_is_missing(lack: str, name: str) -> None:
    results = check_engine(without(lack), checks=[name], options=FEW)
    assert [result.message() for result in results if result.status is not Status.PASSED] == []


@pytest.mark.parametrize(
    ("lack", "name"),
    [
        ("layer:flatten", "trajectory/fit-conv2d"),
        ("layer:flatten layer:global_average_pool", "determinism/replicas-of-sequences"),
        ("layer:dense", "checkpoint/weights"),
        ("layer:dense", "trajectory/fit-network"),
        ("layer:dense", "trajectory/fit-large"),
        ("layer:dense", "forward/inputs"),
    ],
)
def test_a_check_that_has_no_example_is_declared(lack: str, name: str) -> None:
    results = check_engine(without(lack), checks=[name], options=FEW)
    assert declared(results) == {name}


COMMIT = current_commit()
PARTS = 5
"""Each lack meets one part of the checks, which the commit selects: all would take 40 minutes."""
NOT_ASKED_OF_NUMPY = {
    *(check.name for check in CHECKS.values() if {*NumpyEngine.lacks} & {*check.requires}),
    # Another process cannot create an engine that is given as a class.
    "determinism/process",
}
"""The checks that the engine without a further lack leaves out."""


@pytest.mark.slow
@pytest.mark.parametrize("lack", [*lacks()])
def test_every_other_check_is_asked(lack: str) -> None:
    selected = [
        check.name
        for check in select(None)
        if check.rung != "distribution" and rank(COMMIT, f"{lack} {check.name}") % PARTS == 0
    ]
    results = check_engine(without(lack), "collect", checks=selected, options=FEW, beyond=True)
    others = {name for name in declared(results) - NOT_ASKED_OF_NUMPY if not is_about(name, lack)}
    assert others <= NOT_ASKED.get(lack, set())
    failed = [r.message() for r in results if r.finding and "stale" not in r.finding.summary]
    assert failed == []


def minimal_engine() -> type[Any]:
    """Return the engine of the documentation, which has few records."""
    page = Path(__file__).parents[2] / "docs" / "check-an-engine.md"
    code = re.search(
        r"```python\n# tiny\.py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )
    assert code is not None
    names: dict[str, Any] = {"__name__": "tiny"}
    exec(code[1], names)
    found: type[Any] = names["Tiny"]
    return found


TINY: Any = minimal_engine()


class IgnoresTheSeed(TINY):  # type: ignore[misc]
    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Any:
        return super().fit(net, samples, recipe, plan if plan.parity else replace(plan, seed=0))


class DrawsASeed(TINY):  # type: ignore[misc]
    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Any:
        seed = int.from_bytes(os.urandom(3), "big")
        return super().fit(net, samples, recipe, plan if plan.parity else replace(plan, seed=seed))


class StartsEqually(TINY):  # type: ignore[misc]
    def build(self, model: Any, weights: Any = None, *, seed: int = 0) -> Any:
        return super().build(model, weights)


class DoesNotShuffle(TINY):  # type: ignore[misc]
    def fit(self, net: Any, samples: Any, recipe: Any, plan: Any) -> Any:
        own = recipe if plan.parity else replace(recipe, shuffle=False)
        return super().fit(net, samples, own, plan)


@pytest.mark.parametrize(
    ("engine", "broken"),
    [
        (TINY, set()),
        (IgnoresTheSeed, {"trajectory/order", "determinism/replicas-shuffle"}),
        (DrawsASeed, {"trajectory/order", "determinism/seed"}),
        (StartsEqually, {"initializer/seeds"}),
        (DoesNotShuffle, {"trajectory/order", "determinism/replicas-shuffle"}),
    ],
)
def test_broken_seeds_of_a_minimal_engine_are_found(engine: type[Any], broken: set[str]) -> None:
    checks = ("initializer/seeds", *ALWAYS)
    results = check_engine(engine, "collect", checks=checks, options=FEW, beyond=True)
    assert declared(results) == set()
    found = {result.name for result in results if result.status is Status.FAILED}
    assert {name for name in found if "@" not in name} == broken


@pytest.mark.parametrize(
    "name", [*(f"state/{kind}" for kind in IN_FIT), "state/dropout-in-large-fit"]
)
def test_float32_counts_what_a_loss_of_signs_keeps(name: str) -> None:
    # Its kernel starts at -0.001, of which float32 loses movements that are too small.
    class OfSigns(NumpyEngine):
        lacks = {  # noqa: RUF012
            **NumpyEngine.lacks,
            **{f"loss:{kind}": "for a test" for kind in LOSSES if kind != "hinge"},
        }
        dtypes = ("float32",)

    assert check_engine(OfSigns, checks=[name])
