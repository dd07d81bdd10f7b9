"""Verdicts as JUnit XML, which CI systems read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

ELEMENTS = {"FAIL": "failure", "INCONCLUSIVE": "skipped", "UNJUDGED": "skipped"}


def junit(verdicts: Sequence[Mapping[str, Any]], inconclusive: str = "skipped") -> str:
    """A test suite of one case a verdict, as `Verdict.to_dict` gives them; INCONCLUSIVE is the
    element `inconclusive`, "" for none."""
    elements = ELEMENTS | {"INCONCLUSIVE": inconclusive}
    kinds = [elements.get(verdict["outcome"], "") for verdict in verdicts]
    suite = ElementTree.Element(
        "testsuite",
        name="dlsys-bench gate",
        tests=str(len(verdicts)),
        failures=str(kinds.count("failure")),
        skipped=str(kinds.count("skipped")),
        errors="0",
        time=f"{sum(v['seconds'] for v in verdicts):.3f}",
    )
    for verdict, kind in zip(verdicts, kinds, strict=True):
        name = "/".join(filter(None, (verdict["study"], verdict["arm"])))
        where = ".".join(
            filter(None, ("dlsys_bench", verdict["engine"], verdict["dataset"], verdict["tier"]))
        )
        case = ElementTree.SubElement(
            suite, "testcase", name=name, classname=where, time=f"{verdict['seconds']:.3f}"
        )
        said = f"{verdict['reason']}\nreplay: {verdict['replay']}"
        if kind:
            ElementTree.SubElement(
                case, kind, message=f"{verdict['outcome']}: {verdict['reason']}"
            ).text = said
        else:
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
