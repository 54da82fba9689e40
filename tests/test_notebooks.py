"""The notebooks run, without warnings; their outputs are kept for the site, which shows them."""

from __future__ import annotations

import fcntl
import re
from pathlib import Path

import nbformat
import pytest
from circuits import SHARED
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
KEPT = ROOT / "build" / "notebooks"
PUBLIC = SHARED / "functionalizer_1000n" / "circuit_config.json"

# Where a notebook says which circuit it is about.
CIRCUIT = re.compile(r"^circuit = .*  # or your own$", re.MULTILINE)

# The kernel's own packages deprecate things among themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def read(file):
    notebook = nbformat.read(file, as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook, folder):
    resources = {"metadata": {"path": str(folder)}}
    # Times would be part of what the site looks a notebook up by.
    NotebookClient(notebook, timeout=300, resources=resources, record_timing=False).execute()


def keep(notebook, file):
    """Put an executed notebook where the site looks for it (see docs/conf.py)."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        get_cache(KEPT).cache_notebook_bundle(CacheBundleIn(notebook, str(file)), overwrite=True)


def errors_of(code):
    """What the cells wrote to standard error, which is where warnings go."""
    outputs = [output for cell in code for output in cell.outputs]
    return [output.text for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_run_and_are_kept_without_output(tmp_path, file):
    notebook, code = read(file)
    assert len(code) >= 3
    assert len(notebook.cells) < 25
    assert not any(cell.outputs or cell.execution_count for cell in code)
    execute(notebook, tmp_path)
    assert any(cell.outputs for cell in code)
    assert errors_of(code) == []
    # One folder holds all that it wrote.
    assert [entry.name for entry in tmp_path.iterdir()] == ["connprops-notebooks"]
    keep(notebook, file)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_say_at_the_top_what_one_learns_and_how_long_it_takes(file):
    notebook, _ = read(file)
    top = notebook.cells[0]
    assert top.cell_type == "markdown"
    assert top.source.startswith("# ")
    assert "*You learn*" in top.source
    assert "*It takes*" in top.source


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_links_of_notebooks_lead_somewhere(file):
    notebook, _ = read(file)
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    links = [link for text in texts for link in re.findall(r"\]\(([^)#]+)", text)]
    assert [link for link in links if not (file.parent / link).is_file()] == []


@pytest.mark.skipif(not PUBLIC.is_file(), reason="the public circuits are not here")
@pytest.mark.parametrize("stem", ["statistics", "distributions", "drawing"])
def test_notebooks_run_on_a_real_circuit(tmp_path, stem):
    notebook, code = read(Path(__file__).parents[1] / "notebooks" / f"{stem}.ipynb")
    first = code[0]
    first.source, n = CIRCUIT.subn(f"circuit = Path({str(PUBLIC)!r})", first.source)
    assert n == 1
    execute(notebook, tmp_path)
