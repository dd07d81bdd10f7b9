"""The explanations of the checks, and the command that prints them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command_line import invoke

from dlsys_bench.conformance import checks
from dlsys_bench.conformance.check import CHECKS, Check
from dlsys_bench.conformance.explanation import explain
from dlsys_bench.conformance.ladder import select

assert checks  # Importing them registers them.


def mistakes(check: Check) -> Iterator[str]:
    """Yield what is wrong with the explanation of a check."""
    sections = check.explanation.sections()
    yield from {"What", "Why", "Broken by", "Usual fix"} - set(sections)
    for title, text in sections.items():
        sentences = text[0].isupper() and text.rstrip("`)").endswith(".")
        if len(text) <= 20 or "{" in text or not sentences:
            yield f"{title}: {text}"
    if not sections["Broken by"].startswith(("An engine ", "A library ")):
        yield sections["Broken by"]


def test_every_check_is_explained() -> None:
    found = {name: wrong for name, check in CHECKS.items() if (wrong := [*mistakes(check)])}
    assert found == {}


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
