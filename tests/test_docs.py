"""The pages of docs/: their examples run, their links lead somewhere, and they are up to date."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import typer

import connprops
from connprops.cli import app
from connprops.query.session import questions

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RESULTS = "connprops-demo-connprops"
BLOCK = re.compile(r"^```(bash|python|sql)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DEMO = "connprops demo  "


def text_of(name):
    return (DOCS / name).read_text(encoding="utf-8")


def made_by(script):
    spec = importlib.util.spec_from_file_location(script, DOCS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(file):
    """The names that headings of a page have in links."""
    headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_the_index_knows_every_page_and_notebook():
    linked = set(re.findall(r"\]\(([^)#]+)", text_of("index.md")))
    pages = {page.name for page in PAGES} - {"index.md"}
    notebooks = {f"../notebooks/{file.name}" for file in DOCS.glob("../notebooks/*.ipynb")}
    assert pages | notebooks <= linked


@pytest.mark.parametrize("name", ["python", "commands"])
def test_reference_pages_are_up_to_date(name):
    made = made_by(f"make_{name}").page()
    assert text_of(f"{name}.md") == made, f"python docs/make_{name}.py writes it again"


def test_the_python_page_has_the_whole_interface():
    page = text_of("python.md")
    for name in connprops.__all__:
        assert f"\n### {name}\n" in page
    for of, name in (("Dataset", "sql"), ("Statistics", "table"), ("Model", "draw_synapses")):
        assert f"\n#### {of}.{name}" in page
    # Nothing of reST or of numpy's underlines is left.
    assert re.findall(r":\w+:`|(?<!`)``(?!`)|^-{3,}$", page, re.MULTILINE) == []


def test_the_commands_page_has_every_option():
    page = text_of("commands.md")
    for name, command in typer.main.get_command(app).commands.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section
        for parameter in command.params:
            for option in getattr(parameter, "opts", []):
                assert not option.startswith("--") or option in section
        for line in command.epilog.splitlines()[1:]:
            assert line in section


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
    pages = ("sql.md", "index.md", "trust.md")
    blocks = [block for name in pages for block in BLOCK.findall(text_of(name))]
    assert len(blocks) >= 12
    for language, text in blocks:
        # A small demo is quick; the second page finds that of the first.
        run(language, text.replace(DEMO, "connprops demo --synapses 5000  "), tmp_path)
    assert (tmp_path / "in_degree.csv").read_text().startswith("target_type,")
    assert (tmp_path / "far.parquet").is_file()
    assert (tmp_path / "drawn.h5").stat().st_size > 10_000
    assert list((tmp_path / "charts").glob("*u_syn.html"))
