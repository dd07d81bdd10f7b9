"""The explanations of the checks, and the command that prints them."""

from __future__ import annotations

import pytest
from command_line import invoke

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import CHECKS, Check
from dlsys_bench.conformance.explanation import explain
from dlsys_bench.conformance.ladder import select

assert checks  # Importing them registers them.


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_every_check_is_explained(check: Check) -> None:
    sections = check.explanation.sections()
    assert {"What", "Why", "Broken by", "Usual fix"} <= set(sections)
    for title, text in sections.items():
        assert len(text) > 20, f"{check.name}: {title}"
        assert "{" not in text
        assert text[0].isupper()
        assert text.rstrip("`)").endswith(".")
    assert sections["Broken by"].startswith(("An engine ", "A library "))


def test_the_definition_of_a_record_is_part_of_the_explanation() -> None:
    definition = CHECKS["loss/mean_squared_error"].explanation.definition
    assert (
        definition
        == "MeanSquaredError: Mean of (y - t)^2 over the batch and the outputs. y, t (N, ...)."
    )
    assert CHECKS["forward/conv2d"].explanation.definition.startswith("Conv2D: 2-D convolution")
    assert CHECKS["determinism/seed"].explanation.definition == ""


def test_a_check_without_a_section_is_rejected() -> None:
    with pytest.raises(ValueError, match="the check of 'x' has no section 'Fix'"):
        explain("What.\n\nWhy: So.\nBroken by: That.", "x")


@pytest.mark.parametrize("name", ["step/adam", "step/adam@float32"])
def test_the_command_explains_a_check_in_any_dtype(name: str) -> None:
    text = invoke("conform", "--explain", name).stdout
    assert text.startswith(name)
    assert "Why: Frameworks define adam differently" in text
    assert "Broken by: An engine that adds epsilon inside the root" in text


def test_an_unknown_check_is_a_usage_error() -> None:
    assert 'did you mean "step/adam"' in invoke("conform", "--explain", "stepp/adam", code=2).stderr


def test_a_check_in_a_lower_precision_has_the_same_explanation() -> None:
    (check,) = select(["step/adam@float32"], ["float32", "float64"])
    assert check.explanation == CHECKS["step/adam"].explanation
