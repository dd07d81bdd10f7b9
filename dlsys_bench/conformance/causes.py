"""Group the findings of a climb by their probable cause.

The failed checks are taken in the order of the ladder. Each joins the first group whose root, the
lowest check in it, explains it; otherwise it is the root of a new group. A root explains another
finding if one of these rules holds, and the rule is the evidence that is printed:

1. *Same mistake*: both have a diagnosis of one kind, with the same ratio if it is a ratio.
2. *Same tensor*: the findings are about one kind of tensor ("dense.bias"), and either both have the
   same ratio of actual to expected values, or one has none, because too few values tell it.
3. *Same event*: the same method raised the same error, or had the same side effect; numbers and
   names in the message do not count.
4. *Contains*: the root is the check of one kind of layer or function, and the example of the other
   finding, which a search has made as small as it can be, contains it.
5. *Same check*, in a lower precision.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from dlsys_bench.conformance.check import AT
from dlsys_bench.conformance.finding import Fault, Finding
from dlsys_bench.conformance.result import CheckResult
from dlsys_bench.spec.layers import FUNCTIONS, VARIANTS

RATIO = 0.02
"""The relative difference up to which two ratios are the same."""

EVENTS = (
    Fault.RAISED,
    Fault.NOT_RAISED,
    Fault.SIDE_EFFECT,
    Fault.WRONG_TYPE,
    Fault.CRASHED,
    Fault.TIMEOUT,
)
"""The faults of which the message says what happened, rather than which value is wrong."""

_DETAIL = re.compile(r"'[^']*'|\"[^\"]*\"|\w*\d\w*|\([^()]*\)")


@dataclass
class Cause:
    """A probable cause: the lowest check that shows it, and the others with the evidence."""

    root: CheckResult
    consequences: list[tuple[CheckResult, str]] = field(default_factory=list)


def causes(results: Iterable[CheckResult]) -> list[Cause]:
    """Return the probable causes of the findings in results, in the order of the ladder."""
    found: list[Cause] = []
    for result in results:
        if result.finding is None:
            continue
        for cause in found:
            if evidence := explains(cause.root, result):
                cause.consequences.append((result, evidence))
                break
        else:
            found.append(Cause(result))
    return found


def explains(root: CheckResult, other: CheckResult) -> str | None:
    """Return the evidence that two findings have one cause, or None."""
    return next((name for name, rule in RULES.items() if rule(root, other)), None)


def _findings(root: CheckResult, other: CheckResult) -> tuple[Finding, Finding]:
    assert root.finding is not None
    assert other.finding is not None
    return root.finding, other.finding


def _same_mistake(root: CheckResult, other: CheckResult) -> bool:
    a, b = _findings(root, other)
    if a.diagnosis is None or b.diagnosis is None or a.fault != b.fault:
        return False
    if a.fault is Fault.STALE_DECLARATION:
        return False
    return a.fault is not Fault.WRONG_VALUE and _same_ratio(a, b)


def _same_ratio(a: Finding, b: Finding) -> bool:
    if a.ratio is None or b.ratio is None:
        return True
    return abs(a.ratio - b.ratio) <= RATIO * max(abs(a.ratio), abs(b.ratio))


def _same_tensor(root: CheckResult, other: CheckResult) -> bool:
    a, b = _findings(root, other)
    kind = _kind(a.tensor)
    return kind is not None and kind == _kind(b.tensor) and _same_ratio(a, b)


def _kind(tensor: str | None) -> str | None:
    """Return a tensor without the number of its layer: "dense.bias" of "dense_2.bias"."""
    if tensor is None:
        return None
    layer, _, name = tensor.partition(".")
    return f"{layer.rpartition('_')[0]}.{name}"


def _same_event(root: CheckResult, other: CheckResult) -> bool:
    a, b = _findings(root, other)
    return a.fault in EVENTS and a.fault == b.fault and _event(a) == _event(b)


def _event(finding: Finding) -> str:
    return _DETAIL.sub("", finding.what)


def _contains(root: CheckResult, other: CheckResult) -> bool:
    subject = root.subject.partition(AT)[0]
    a, b = _findings(root, other)
    if subject not in SUBJECTS or b.example is None or a.fault != b.fault:
        return False
    return re.search(rf"\b{subject}\b", b.example) is not None


SUBJECTS = (VARIANTS.keys() | FUNCTIONS.keys()) - {"dense", "flatten"}
"""The subjects that an example contains only if it has to: the others are in every network."""


def _same_check(root: CheckResult, other: CheckResult) -> bool:
    return root.name.partition(AT)[0] == other.name.partition(AT)[0]


RULES: Mapping[str, Callable[[CheckResult, CheckResult], bool]] = {
    "same mistake": _same_mistake,
    "same kind of tensor": _same_tensor,
    "same event": _same_event,
    "contains the layer": _contains,
    "same check": _same_check,
}
"""The rules by the evidence that they are."""
