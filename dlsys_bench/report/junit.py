"""Verdicts in JUnit XML, the format of test results that CI systems read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from dlsys_bench.text import printable

ELEMENTS = {"FAIL": "failure", "UNJUDGED": "skipped"}


def junit(verdicts: Sequence[Mapping[str, Any]], inconclusive: str = "error") -> str:
    """Return a test suite in XML with one test case per verdict.

    `verdicts` are those of `Verdict.to_dict`. `inconclusive` is the element of an INCONCLUSIVE one
    ("skipped", "failure" or "error"), or "" for none.
    """
    elements = ELEMENTS | {"INCONCLUSIVE": inconclusive}
    kinds = [elements.get(verdict["outcome"], "") for verdict in verdicts]
    suite = ElementTree.Element(
        "testsuite",
        name="dlsys-bench gate",
        tests=str(len(verdicts)),
        failures=str(kinds.count("failure")),
        skipped=str(kinds.count("skipped")),
        errors=str(kinds.count("error")),
        time=f"{sum(v['seconds'] for v in verdicts):.3f}",
    )
    for verdict, kind in zip(verdicts, kinds, strict=True):
        name = "/".join(filter(None, (verdict["study"], verdict["arm"])))
        parts = ("dlsys_bench", verdict["engine"], verdict["dataset"], verdict["tier"])
        class_name = ".".join(filter(None, parts))
        case = ElementTree.SubElement(
            suite,
            "testcase",
            name=printable(name),
            classname=printable(class_name),
            time=f"{verdict['seconds']:.3f}",
        )
        text = printable(f"{verdict['reason']}\nreplay: {verdict['replay']}")
        if kind:
            ElementTree.SubElement(
                case, kind, message=printable(f"{verdict['outcome']}: {verdict['reason']}")
            ).text = text
        else:
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
