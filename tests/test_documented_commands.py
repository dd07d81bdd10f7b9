"""The tutorials and the how-to guides, run from top to bottom, and the pages that are generated.

Every line of output that a page shows has to be printed, in this order; `...` stands for any text,
and the borders of tables and the spaces are ignored.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from documented import fences, missing_line

from dlsys_bench.conformance.check import CHECKS
from dlsys_bench.conformance.ladder import select
from dlsys_bench.data import is_available

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.glob("**/*.md"))
    if "generated" not in path.relative_to(DOCS).parts
}
RUN = [
    page
    for page, text in PAGES.items()
    if any(fence.commands() for fence in fences(text) if fence.language == "console")
    # test_tutorial.py runs all of its commands.
    and page != "gate-a-training.md"
]

MINUTES, A_GPU, A_NAME = "it takes minutes", "it needs a GPU", "x stands for a new name"
NOT_RUN = {
    "dlsys-bench conform --engine torch": "the climbs of the engines run it",
    "pytest --pyargs dlsys_bench.conformance --dlsys-engine torch": MINUTES,
    "dlsys-bench conform --engine tiny:Tiny": "the climbs of the engines run it",
    "dlsys-bench conform --engine numpy --check forward/x --check gradient/x": A_NAME,
    "dlsys-bench run perceptron --tier full": MINUTES,
    "dlsys-bench claims perceptron": "its runs are not made",
    "mkdir before after": "its sessions are not made",
    "for i in 1 2 3 4 5": MINUTES,
    "dlsys-bench bench compare before after": "its sessions are not made",
    "dlsys-bench bench sweep": A_GPU,
    "dlsys-bench bench time-to-accuracy": MINUTES,
    "dlsys-bench run resnet/mnist/post": MINUTES,
    "dlsys-bench gate resnet/fashion_mnist": MINUTES,
    "dlsys-bench calibrate regularizers": MINUTES,
}
"""Why commands that begin like this are not run as they are printed; their options are parsed."""

PROGRAMS = {"dlsys-bench": "dlsys_bench", "pytest": "pytest"}
"""The modules behind the programs of the pages."""


def is_run(command: str) -> bool:
    """Return False for a command that is not run, or whose dataset is not there."""
    missing = "fashion_mnist" in command and not is_available("fashion_mnist")
    return not missing and not any(command.startswith(start) for start in NOT_RUN)


def run(command: str, folder: Path) -> str:
    words = shlex.split(command, comments=True)
    variables = dict(os.environ)
    if words[0] == "env":
        name, _, value = words[1].partition("=")
        variables[name], words = value, words[2:]
    done = subprocess.run(
        [sys.executable, "-m", PROGRAMS[words[0]], *words[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env=variables | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
    )
    assert done.returncode in (0, 1, 3), f"{command}: {done.returncode}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_a_page_works_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    for fence in fences(PAGES[page]):
        if fence.file:
            (tmp_path / fence.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / fence.file).write_text(fence.text)
        commands = fence.commands() if fence.language == "console" else ()
        for command, shown in filter(lambda one: is_run(one[0]), commands):
            printed = run(command, tmp_path)
            line = missing_line(shown, printed)
            assert line is None, f"{page} shows {line!r}; {command} prints\n{printed}"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["check-an-engine.md", "extend.md"])
def test_examples_that_are_not_files_run(page: str, tmp_path: Path) -> None:
    blocks = [one for one in fences(PAGES[page]) if one.language == "python" and one.file is None]
    assert blocks
    for block in blocks:
        text = block.text.replace('"torch"', '"numpy"')
        subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True, timeout=900)


def test_every_command_that_is_not_run_is_one_of_the_pages() -> None:
    commands = [
        command
        for page in RUN
        for fence in fences(PAGES[page])
        for command, _ in (fence.commands() if fence.language == "console" else ())
    ]
    assert [start for start in NOT_RUN if not any(c.startswith(start) for c in commands)] == []
    assert {shlex.split(c)[0] for c in filter(is_run, commands)} <= {*PROGRAMS, "env"}


def test_a_line_that_is_not_printed_is_found() -> None:
    printed = "┃ arm ┃ MDE ┃\n│ bn   │ 0.0162 │\n3 of 5 checks\n"
    assert missing_line("arm MDE\nbn 0.0162\n3 of ... checks\n", printed) is None
    assert missing_line("arm MDE\nbn 0.0163\n", printed) == "bn 0.0163"
    assert missing_line("bn 0.0162\narm MDE\n", printed) == "arm MDE"


def generated() -> dict[str, str]:
    sys.path.insert(0, str(DOCS))
    try:
        import generated_pages
    finally:
        sys.path.remove(str(DOCS))
    return dict(generated_pages.pages())


def test_every_check_has_a_page_that_the_list_leads_to() -> None:
    assert select(None, ())  # The ladder registers the checks.
    pages = generated()
    for name, check in CHECKS.items():
        page = pages[f"checks/{name}.md"]
        assert f"# {name}\n" in page
        assert all(f"**{title}.**" in page for title in check.explanation.sections())
        assert f"({name}.md)" in pages["checks/index.md"]


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = re.findall(r"^[\w./-]+$", PAGES["index.md"], re.M)
    missing = {page.removesuffix(".md") for page in PAGES} - {"index", *listed}
    assert not missing
    existing = {*generated(), *PAGES}
    for name in listed:
        assert (DOCS / f"{name}.md").exists() or f"{name.partition('/')[2]}.md" in existing, name


class Links(HTMLParser):
    """The targets of the links of a page, and what would be loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        self.loaded += [str(values[name]) for name in ("src",) if values.get(name)]


@pytest.mark.slow
def test_the_documentation_is_built_without_warnings_and_dead_links(tmp_path: Path) -> None:
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module, reason="pip install 'dlsys-bench[docs]'")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"]
    command += ["-d", str(tmp_path / "trees"), "-b", "html", ".", str(tmp_path / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    built = sorted((tmp_path / "html").rglob("*.html"))
    assert len(built) > len(CHECKS)
    dead = []
    for path in built:
        links = Links(path.read_text(encoding="utf-8"))
        dead += [f"{path.name} loads {one}" for one in links.loaded if "//" in one]
        for link in links.links:
            file = unquote(link.partition("#")[0].partition("?")[0])
            if file and "://" not in file and not (path.parent / file).exists():
                dead.append(f"{path.relative_to(tmp_path)}: {link}")
    assert not dead
