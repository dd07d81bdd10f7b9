"""The structure of the HTML pages: complete, self-contained, and inert."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import enter, invoke
from pages import HOSTILE, Parsed, hostile_page, make_runs, make_verdict, page_of
from results import make_result

from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.errors import UserError
from dlsys_bench.notebooks.claims import published_figures
from dlsys_bench.report.html import runs as runs_of_page
from dlsys_bench.report.html.charts import Axes, Line, chart
from dlsys_bench.report.html.conformance import compliance_sections, matrix_section
from dlsys_bench.report.html.curves import curve_sections
from dlsys_bench.report.html.included import included_sections
from dlsys_bench.report.html.page import Graphic, Page, Section, Sheet, render, write_page
from dlsys_bench.report.html.stacks import stack_section
from dlsys_bench.report.html.strips import Strip, draw, scale_of
from dlsys_bench.report.html.svg import AxisScale, Html, tag
from dlsys_bench.report.html.verdicts import verdict_sections
from dlsys_bench.report.plots.groups import groups
from dlsys_bench.report.table import Table
from dlsys_bench.runs.store.text import write_text
from dlsys_bench.studies.base import Published
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.verdict import Outcome

REPORTS = Path(__file__).parents[2] / "reports"


def assert_self_contained(text: str) -> Parsed:
    """Assert that a page loads nothing and runs its own script alone; return it."""
    page = Parsed(text)
    assert len(page.named("script")) == len(page.named("style")) == 1
    for name, attributes in page.elements:
        assert name not in {"iframe", "object", "embed", "base", "form"}
        assert not any(key.startswith("on") or key == "style" for key in attributes), attributes
        target = attributes.get("href", "") or attributes.get("src", "")
        assert target.startswith(("#", "data:image/png;base64,")) or not target, target
    assert not re.search(r"url\(|@import|https?:", page.code)
    (policy,) = page.named("meta", **{"http-equiv": "Content-Security-Policy"})
    for element in ("style", "script"):
        inner = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner[0].encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy["content"]
    assert "default-src 'none'" in policy["content"]
    return page


def test_hostile_texts_are_shown_and_do_nothing() -> None:
    page = assert_self_contained(render(hostile_page()))
    for text in HOSTILE[:-1]:
        assert text in page.text
    assert not page.named("img")
    assert "\x1b" not in page.text
    assert "\\x1b[31m" in page.text


def test_every_run_is_a_dot_with_its_seed(tmp_path: Path) -> None:
    runs = make_runs(2, ("numpy", "torch"), 3)
    text = render(page_of(runs, tmp_path))
    page = assert_self_contained(text)
    assert len(page.named("circle", class_="dot")) == len(runs)
    for run in runs:
        assert f"seed {run.seed}: {run.metric('test_accuracy'):.5g}" in page.text


def test_the_page_is_complete_without_its_script(tmp_path: Path) -> None:
    page = Parsed(render(page_of(make_runs(5, ("numpy",), 2), tmp_path)))
    for name in ("button", "input", "select"):
        assert not page.named(name), "made by the script, which may not run"
    assert not [a for _, a in page.elements if "hidden" in a]


def test_every_link_of_the_page_leads_to_a_section(tmp_path: Path) -> None:
    page = Parsed(render(page_of(make_runs(2, ("numpy",), 2), tmp_path)))
    targets = [attributes["href"][1:] for attributes in page.named("a")]
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert set(targets) <= set(identifiers)
    assert len(set(identifiers)) == len(identifiers)


def test_the_size_grows_by_less_than_a_page_of_2400_runs_allows(tmp_path: Path) -> None:
    sizes = [len(render(page_of(make_runs(arms, ("numpy",), 20), tmp_path))) for arms in (1, 3)]
    each = (sizes[1] - sizes[0]) / 40
    assert sizes[0] + 2400 * each < 5e6


def test_a_verdict_shows_its_runs_band_rates_and_commands() -> None:
    verdicts = [make_verdict("a", Outcome.PASS), make_verdict("b", reason=HOSTILE[0])]
    sections = verdict_sections(verdicts, (), 1e-3, 1e-2)
    page = assert_self_contained(render(Page("Gate", "FAIL", (), sections)))
    assert len(page.named("circle", class_="dot")) == 2
    assert len(page.named("path", class_="lost")) == 2
    assert len(page.named("rect", class_="band")) == 2
    for text in ("seed 10001: diverged", "0.03", "1.00e-03", verdicts[1].replay, "baseline accept"):
        assert text in page.text


def test_the_band_and_the_published_figure_of_a_study_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the command `power` and the rulings on claims compute takes seconds; the tests of the
    # documentation and of the claims run both.
    table = Table("Claims", ("claim",), [("nb2.bn+bn.test_accuracy@10",)])
    monkeypatch.setattr(runs_of_page, "powers", lambda known, own: [table])
    monkeypatch.setattr(runs_of_page, "appendices", lambda names, own: {names[0]: [table]})
    study = studies()["regularization/lenet5-tanh"]
    protocol = study.arm("bn+bn").protocol("full")
    key = {"study": study.name, "arm": "bn+bn", "dataset": "mnist", "tier": "full"}
    runs = [make_result(seed, protocol=protocol, **key) for seed in (10000, 10001)]
    page = Parsed(render(page_of(runs, tmp_path)))
    assert len(page.named("rect", class_="band")) == 1
    assert len(page.named("polygon", class_="mark")) == 1
    assert "nb2.bn+bn.test_accuracy@10: 0.9858" in page.text
    assert "dlsys-bench run regularization/lenet5-tanh/bn+bn" in page.text
    for title in ("Claims about", "Error budget of"):
        assert f"{title} regularization/lenet5-tanh" in page.text


def test_published_figures_are_those_of_the_last_epoch() -> None:
    found = published_figures("regularization/lenet5-tanh")
    expected = Published("dropout", "running_accuracy", 0.8641, "nb2.dropout.train_accuracy@10")
    assert expected in found


def test_what_changed_between_runs_is_listed_once(tmp_path: Path) -> None:
    section = stack_section(make_runs(1, ("numpy", "torch"), 4))
    (sheet,) = section.sheets
    newest, oldest = sheet.rows
    assert newest[4] == "numpy 2.0 → 2.1"
    assert newest[2] == oldest[2] == "4"


def test_curves_are_zoomed_to_the_later_part_of_the_trainings() -> None:
    runs = make_runs(2, ("numpy",), 3)
    arms, section = curve_sections("big", groups(runs))
    assert [panel.caption for panel in arms.panels] == [
        "numpy: test accuracy",
        "numpy: training loss, running",
    ]
    assert str(arms.panels[0].image).count("<polyline") == 2
    (alone,) = curve_sections("big", groups(runs[:3]))
    assert alone.title == "Curves of big"
    assert [panel.caption for panel in section.panels] == [
        "arm 0: test accuracy",
        "arm 1: test accuracy",
        "arm 0: training loss, running",
        "arm 1: training loss, running",
    ]
    # The first loss is 1 and those after the first quarter are at most 1/3.
    loss = str(section.panels[2].image)
    assert ">1<" not in loss
    assert ">0.3<" in loss


def test_a_range_outside_of_the_limits_is_left_out_and_the_ticks_of_epochs_are_whole() -> None:
    line = Line("numpy", [1, 2], [0.2, 0.9], [0.1, 0.8], [0.3, 1.0])
    drawn = str(chart("a", [line], Axes("", "", limits=(0.5, 1), whole=True), ["numpy"]))
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    assert len(points.split()) == 2
    assert len(re.findall(r">[12]</text>", drawn)) == 3  # 1 and 2 of x, and 1 of y
    assert ">1.5<" not in drawn
    short = [replace(run, history=run.history[:1]) for run in make_runs(2, ("numpy",), 2)]
    assert curve_sections("one epoch", groups(short)) == []


def test_benchmarks_are_shown_as_a_fraction_of_the_matrix_peak(tmp_path: Path) -> None:
    extra: tuple[dict[str, Any], ...] = (
        {"gflops": 20.0, "matrix_peak_gflops": 80.0},
        {"gflops": "x"},
        {},
    )
    content = {
        "benchmarks": [
            {"fullname": f"test_{at}", "stats": {"data": [0.1]}, "extra_info": info}
            for at, info in enumerate(extra)
        ]
    }
    path = tmp_path / "session.json"
    path.write_text(json.dumps(content))
    (section,) = included_sections([path])
    (row,) = section.sheets[0].rows
    assert row[:4] == ("test_0", "20", "80", "25.0%")
    path.write_text(json.dumps({"benchmarks": content["benchmarks"][1:]}))
    with pytest.raises(UserError, match="no benchmark of .* has a fraction of the peak"):
        included_sections([path])


def test_included_results_of_every_kind() -> None:
    files = ("conformance/numpy.json", "conformance/mutants.json", "speed/cpu.jsonl")
    more = ("speed/time-to-accuracy.jsonl", "speed/cpu.png")
    sections = included_sections([REPORTS / name for name in (*files, *more)])
    titles = [section.title for section in sections]
    expected = ["Conformance", "Mutants", "Throughput", "Roofline", "Time to accuracy", "Pictures"]
    assert titles == expected
    page = assert_self_contained(render(Page("All", "", (), sections)))
    assert len(page.named("img")) == 1
    assert "dense_kernel_transposed_when_square" in page.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1]",
        '{"other": 1}',
        '{"mutants": 3}',
        '{"mutants": [{"name": 1}], "rungs": ["shapes"], "summary": ""}',
        '{"outcomes": null}',
        '{"samples_a_second": "fast"}',
        '{"reached": []}',
    ],
)
def test_another_file_is_not_included(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(UserError, match=r"other\.json"):
        included_sections([tmp_path / "other.json"])


def test_a_climb_shows_causes_checks_and_changes() -> None:
    report = Compliance.read(REPORTS / "conformance/keras.json")
    changed = [("gradient/dense", "passed", "failed")]
    sections = compliance_sections(report, changed)
    assert [section.title for section in sections] == [
        "Changed since the last report",
        "Rungs",
        "Declared",
        "Checks",
    ]
    assert len(sections[-1].sheets[0].rows) == len(report.results)
    (row,) = matrix_section([report]).sheets[0].rows
    assert row[0] == "keras"
    assert row[-1] == "conforms"


def test_reports_and_comparisons_write_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    for name, engine in (("a", "numpy"), ("b", "torch")):
        write_text(Path(f"{name}.jsonl"), make_runs(2, (engine,), 6))
    invoke("report", "a.jsonl", "b.jsonl", "--html", "out/report.html")
    invoke("power", "regularization/lenet5-tanh", "--dataset", "digits", "--html", "power.html")
    power = assert_self_contained(Path("power.html").read_text())
    assert (
        len(power.named("line", class_="interval")) == len(power.named("rect", class_="band")) == 5
    )
    ended = invoke("compare", "a.jsonl", "b.jsonl", "--html", "compare.html")
    assert "page: compare.html" in ended.stderr
    for name in ("out/report.html", "compare.html"):
        assert_self_contained(Path(name).read_text())
    assert not Path("reports").exists()
    assert "arm 1" in Path("compare.html").read_text()


def test_benchmarks_write_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(tmp_path, monkeypatch)
    entry = {"name": HOSTILE[0], "fullname": HOSTILE[0], "stats": {"data": [0.1, 0.11] * 10}}
    for name, factor in (("a", 1), ("b", 2)):
        stats = {"data": [factor * value for value in (0.1, 0.101) * 10]}
        benchmarks = {"benchmarks": [entry | {"stats": stats}], "machine_info": {}}
        Path(f"{name}.json").write_text(json.dumps(benchmarks | {"version": "5.0"}))
    invoke("bench", "compare", "a.json", "b.json", "--html", "bench.html", code=1)
    page = assert_self_contained(Path("bench.html").read_text())
    assert "SLOWER" in page.text
    assert page.named("line", class_="interval")


def test_a_page_that_cannot_be_written_is_reported_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    Path("file").write_text("")
    ended = invoke("gate", "perceptron", "--html", "file/page.html", code=2)
    assert "file/page.html" in ended.stderr
    with pytest.raises(UserError, match="cannot write the page"):
        write_page(Page("", "", (), ()), Path("file/page.html"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_jinja_is_reported_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlsys_bench.extras.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'dlsys-bench\[report\]'"):
        render(Page("", "", (), ()))


def test_an_element_escapes_text_and_keeps_elements() -> None:
    assert tag("b", "<", tag("i", "&"), title='"') == '<b title="&quot;">&lt;<i>&amp;</i></b>'
    assert isinstance(tag("b"), Html)


def test_scales_have_round_ticks_and_hold_every_value() -> None:
    assert AxisScale.of([1.0, 1000.0], 0, 100, logarithmic=True).ticks() == [
        1.0,
        10.0,
        100.0,
        1000.0,
    ]
    assert AxisScale.of([], 0, 100).ticks()
    for values in ([5.0], [0.0], [-1.0, 1.0], [1e-9, 2e-9], [float("inf"), 3.0]):
        scale = AxisScale.of(values, 10, 90)
        assert all(10 <= scale(value) <= 90 for value in values)
        assert scale.ticks()


def test_a_panel_may_be_a_picture_that_is_copied(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG-bytes")
    section = Section("Pictures", panels=[Graphic(HOSTILE[1], tmp_path / "a.png")])
    page = assert_self_contained(render(Page("", "", (), [section])))
    (image,) = page.named("img")
    assert base64.b64decode(image["src"].partition(",")[2]) == b"\x89PNG-bytes"
    assert image["alt"] == HOSTILE[1]


def test_columns_without_content_are_left_out() -> None:
    sheet = Sheet("t", ("a", "b", "c"), [("1", "-", ""), ("2", "", "3")])
    assert sheet.shown == (["a", "c"], [["1", ""], ["2", "3"]])


def test_a_line_ends_where_it_has_no_value() -> None:
    text = chart("c", [Line("a", [1, 2, 3], [1.0, float("nan"), 2.0])], Axes("x", "y"), ["a"])
    assert "nan" not in text
    strip = Strip("s", (("seed 1", float("inf")),))
    assert "diverged" in draw(strip, scale_of([strip]))
