"""The pages: their examples run, their links lead somewhere, and they leave nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import duckdb
import pytest
import typer

import connprops
from connprops.cli import app
from connprops.query.session import questions

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        *DOCS.glob("*.md"),
        *DOCS.glob("decisions/*.md"),
        *ROOT.glob("*.md"),
        ROOT / "benchmarks/README.md",
    ]
)
RESULTS = "connprops-demo-connprops"
BLOCK = re.compile(r"^```(bash|python|sql)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEMO = "connprops demo  "


def text_of(name):
    return (DOCS / name).read_text(encoding="utf-8")


def anchors(file):
    """The names that headings of a page have in links."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    lost = []
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_the_index_knows_every_page_and_notebook():
    linked = set(re.findall(r"\]\(([^)#]+)", text_of("index.md")))
    pages = {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    notebooks = {f"../notebooks/{file.name}" for file in DOCS.glob("../notebooks/*.ipynb")}
    assert pages | notebooks <= linked


def test_the_index_of_decisions_knows_every_decision():
    linked = set(re.findall(r"\]\(([^)#]+)", text_of("decisions/index.md")))
    assert {page.name for page in DOCS.glob("decisions/*.md")} - {"index.md"} <= linked


def test_the_site_has_every_page_in_its_contents():
    contents = import_module("contents")
    pages = {page for section in contents.CONTENTS.values() for page in section}
    pages = {re.sub(r".* <(.+)>", r"\1", page) for page in pages}
    files = [page for page in PAGES if page.parent != DOCS / "decisions"]
    files += [DOCS / "decisions" / "index.md", *(ROOT / "notebooks").glob("*.ipynb")]
    names = {f"/{file.relative_to(ROOT).with_suffix('')}" for file in files}
    assert pages == names - {"/docs/index"}


def test_the_python_page_has_the_whole_interface():
    page = text_of("python.md")
    listed = re.findall(r"^   (connprops\.[\w.]+)$", page, re.MULTILINE)
    assert {f"connprops.{name}" for name in connprops.__all__} <= set(listed)
    for name in ("dataset.dataset.Dataset", "statistics.statistics.Statistics", "Model"):
        assert f"connprops.{name}" in listed
    for name in listed:  # each is there and says what it is
        module, _, member = name.rpartition(".")
        assert getattr(import_module(module), member).__doc__


def test_every_command_has_a_page_with_its_options_and_examples():
    command_pages = import_module("command_pages")
    commands = typer.main.get_command(app).commands
    assert command_pages.names() == list(commands)
    listed = re.findall(r"^\| `connprops ([\w-]+)", text_of("commands.md"), re.MULTILINE)
    assert sorted(listed) == sorted(commands)
    for name, command in commands.items():
        page = command_pages.page(name)
        for parameter in command.params:
            for option in getattr(parameter, "opts", []):
                assert not option.startswith("--") or option in page
        for line in command.epilog.splitlines()[1:]:
            assert line in page


def test_the_sql_page_lists_the_ready_questions():
    page = text_of("sql.md")
    listed = re.findall(r"^\| \[`(\w+)`\]\(\S+\) \| (.+) \|$", page, re.MULTILINE)
    assert listed == [(name, asked.answers) for name, asked in questions().items()]


def run(language, text, folder):
    if language == "sql":
        with duckdb.connect(folder / RESULTS / "connprops.duckdb", read_only=True) as connection:
            if "_in(" not in text:  # what macros of a folder do without
                connection.execute((folder / RESULTS / "views.sql").read_text(encoding="utf-8"))
            for statement in duckdb.extract_statements(text):
                assert connection.execute(statement).fetchall(), statement.query
        return
    interpreter = [sys.executable] if language == "python" else ["bash", "-euo", "pipefail"]
    done = subprocess.run(  # noqa: S603 - our own text
        [*interpreter, "-c", text], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_the_examples_run(tmp_path, monkeypatch):
    if not (Path(sys.executable).parent / "connprops").is_file():
        pytest.skip("connprops is not installed beside this interpreter")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.chdir(tmp_path)
    pages = ("sql.md", "index.md", "trust.md", "python.md", "commands.md")
    blocks = [block for name in pages for block in BLOCK.findall(text_of(name))]
    assert len(blocks) >= 22
    for language, text in blocks:
        # A small demo is quick; the second page finds that of the first.
        run(language, text.replace(DEMO, "connprops demo --synapses 2000  "), tmp_path)
    assert (tmp_path / "in_degree.csv").read_text().startswith("target_type,")
    assert (tmp_path / "far.parquet").is_file()
    assert (tmp_path / "drawn.h5").stat().st_size > 10_000
    assert list((tmp_path / "charts").glob("*u_syn.html"))
    assert (tmp_path / "mean_u_syn.html").is_file()
    assert (tmp_path / "shards" / "dataset" / "manifest.json").is_file()
    assert (tmp_path / "from-file" / "report.html").is_file()
