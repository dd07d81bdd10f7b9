"""An engine with constants in single precision conforms with every seed if it declares them."""

from __future__ import annotations

import pytest
from single_constants import SingleConstants

from dlsys_bench import check_engine
from dlsys_bench.conformance.result import Status
from dlsys_bench.conformance.trial import Options


class Undeclared(SingleConstants):
    """The same without the declarations."""

    loosens = {}  # noqa: RUF012


def failed(engine: type[SingleConstants], seed: int, *checks: str) -> set[str]:
    options = Options(seed=seed)
    results = check_engine(engine, "collect", checks=checks, options=options, beyond=True)
    assert results
    return {result.name for result in results if result.status is Status.FAILED}


@pytest.mark.rotates("declared constants", 2)
@pytest.mark.parametrize(
    ("check", "seed"),
    [
        # The training of each amplifies the error of the learning rate.
        ("state/batch_norm", 1),
        ("trajectory/fit-rms_norm", 1),
        ("trajectory/fit-average_pool", 3),
        ("trajectory/mlp-dropout-batch_norm", 6),
        # The corrections by 1 - 0.99 amplify the error of the beta.
        ("step/large-adam", 3),
        ("trajectory/again-adamw", 1),
    ],
)
def test_declared_constants_are_no_finding(check: str, seed: int) -> None:
    assert not failed(SingleConstants, seed, check)
    assert failed(Undeclared, seed, check) == {check}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
@pytest.mark.parametrize("rung", ["forward", "gradient", "step", "state", "schedule", "trajectory"])
def test_declared_constants_are_no_finding_in_a_rung(rung: str, seed: int) -> None:
    assert not failed(SingleConstants, seed, rung)
